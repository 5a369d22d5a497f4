"""Everything in flagcache that knows PostHog. Users import from the front door, `flagcache`.

The names below are loaded when they are first used: a server's configuration file imports the server's helper from this
package before gevent has patched anything, and the SDK imports `requests` and `ssl`, which must come after that.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flagcache_posthog._redis_provider import RedisFlagDefinitionCache
    from flagcache_posthog.async_provider import AsyncRedisFlagDefinitionCache
    from flagcache_posthog.provider import (
        FlagDefinitionCache,
        MemoryFlagDefinitionCache,
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

_ELSEWHERE = {
    "AsyncRedisFlagDefinitionCache": "flagcache_posthog.async_provider",
    "RedisFlagDefinitionCache": "flagcache_posthog._redis_provider",
}
"""All others are in `flagcache_posthog.provider`."""


if not TYPE_CHECKING:  # with it a type checker would accept any name

    def __getattr__(name: str) -> object:
        """Load a public name from its module."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_ELSEWHERE.get(name, "flagcache_posthog.provider")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
