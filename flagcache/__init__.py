"""A fleet of workers shares one set of PostHog feature-flag definitions.

    from posthog import Posthog
    from flagcache import RedisFlagDefinitionCache

    cache = RedisFlagDefinitionCache("redis://localhost:6379/0", "my-team")
    posthog = Posthog("phc_...", secret_key="phs_...", flag_definition_cache_provider=cache)

The names below are loaded when they are first used, so that importing the engine does not import any vendor's SDK.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from flagcache._version import __version__

if TYPE_CHECKING:
    from flagcache.errors import ConfigurationError, FlagcacheError
    from flagcache.status import Status
    from flagcache_posthog import (
        AsyncRedisFlagDefinitionCache,
        FlagDefinitionCache,
        MemoryFlagDefinitionCache,
        RedisFlagDefinitionCache,
        SqliteFlagDefinitionCache,
        from_url,
    )

__all__ = [
    "AsyncRedisFlagDefinitionCache",
    "ConfigurationError",
    "FlagDefinitionCache",
    "FlagcacheError",
    "MemoryFlagDefinitionCache",
    "RedisFlagDefinitionCache",
    "SqliteFlagDefinitionCache",
    "Status",
    "__version__",
    "from_url",
]

_HOMES = {
    "AsyncRedisFlagDefinitionCache": "flagcache_posthog",
    "ConfigurationError": "flagcache.errors",
    "FlagDefinitionCache": "flagcache_posthog",
    "FlagcacheError": "flagcache.errors",
    "MemoryFlagDefinitionCache": "flagcache_posthog",
    "RedisFlagDefinitionCache": "flagcache_posthog",
    "SqliteFlagDefinitionCache": "flagcache_posthog",
    "Status": "flagcache.status",
    "from_url": "flagcache_posthog",
}


if not TYPE_CHECKING:  # with it a type checker would accept any name

    def __getattr__(name: str) -> object:
        """Load a public name from its module."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
