"""Everything in flagcache that knows PostHog. Users import from the front door, `flagcache`."""

from flagcache_posthog.async_provider import AsyncRedisFlagDefinitionCache
from flagcache_posthog.provider import (
    FlagDefinitionCache,
    MemoryFlagDefinitionCache,
    RedisFlagDefinitionCache,
    SqliteFlagDefinitionCache,
    from_url,
)

__all__ = [
    "AsyncRedisFlagDefinitionCache",
    "FlagDefinitionCache",
    "MemoryFlagDefinitionCache",
    "RedisFlagDefinitionCache",
    "SqliteFlagDefinitionCache",
    "from_url",
]
