"""The caches that a PostHog client takes as its `flag_definition_cache_provider`.

Each is the SDK's protocol (posthog 7.91, `flag_definition_cache.py`) over one `flagcache.coordinator.Coordinator`; they
differ only in the store behind it. Constructing one connects to nothing and starts nothing, so that it can be made
before a fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from posthog.flag_definition_cache import FlagDefinitionCacheData
from typing_extensions import Unpack

from flagcache.encoding.codec import label_of
from flagcache.errors import ConfigurationError
from flagcache.events import Event
from flagcache.settings import Options
from flagcache.stores.fallback import AUTO, Fallback
from flagcache.stores.memory import MemoryHub
from flagcache.stores.spec import StoreSpec
from flagcache_posthog._arguments import path_of, scheme_of, understand
from flagcache_posthog._base import CacheBase
from flagcache_posthog._stores import own_memory, redis_stores, sqlite_spec

if TYPE_CHECKING:
    import redis

__all__ = [
    "FlagDefinitionCache",
    "MemoryFlagDefinitionCache",
    "RedisFlagDefinitionCache",
    "SqliteFlagDefinitionCache",
    "from_url",
]

_hub = MemoryHub()


class FlagDefinitionCache(CacheBase):
    """What all caches have in common but the asynchronous one: the SDK's four methods, and `status`.

    Made by its subclasses and by `from_url`, not by users.
    """

    def should_fetch_flag_definitions(self) -> bool:
        """Whether the calling thread is to fetch from PostHog; asked by the SDK before each poll."""
        return self._should_fetch()

    def get_flag_definitions(self) -> FlagDefinitionCacheData | None:
        """The fleet's definitions; asked by the SDK when it is not to fetch.

        Waits for the first ones, once in a process and no longer than `cold_start_wait`; then answers empty ones.
        """
        return cast("FlagDefinitionCacheData | None", self._coordinator.definitions())

    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> None:
        """Share what the SDK has just fetched; called by the SDK."""
        self._coordinator.received(data)

    def shutdown(self) -> None:
        """Hand the leadership over and close connections; called by `client.shutdown()`.

        A client that was handed in stays open. The cache can be used again afterwards.
        """
        self._coordinator.shutdown()


class RedisFlagDefinitionCache(FlagDefinitionCache):
    """Share definitions among all processes that reach one Redis.

    Args:
        redis: a `redis.Redis`, a client of `Sentinel.master_for`, a `redis.RedisCluster`, or a `redis://`, `rediss://`
            or `unix://` URL. Of a client only address, TLS and credentials are taken; it is never closed nor used.
        namespace: keeps fleets apart: one for each PostHog project and environment.
        refresh_interval: seconds between two requests of the whole fleet to PostHog.
        fallback: a directory for the last known good definitions, which also lets the processes of one machine go on
            with one fetch among them while Redis is away. `"auto"`: `$XDG_STATE_HOME/flagcache`, by default
            `~/.local/state/flagcache`; a reader has none. None: while Redis is away, each process goes on alone.
        on_event: called with each `flagcache.events.Event`, on the thread on which it happened.
        options: `flagcache.settings.Options`: times in seconds, and keys.

    Raises:
        ConfigurationError: an argument cannot be right.
    """

    def __init__(
        self,
        redis: redis.Redis | redis.RedisCluster | str,
        namespace: str,
        *,
        refresh_interval: float = 30.0,
        fallback: Fallback = AUTO,
        on_event: Callable[[Event], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings, protection = understand(namespace, refresh_interval, options)
        stores = redis_stores(redis, namespace, fallback, settings, protection)
        super().__init__(namespace, settings, protection, stores, on_event)


class SqliteFlagDefinitionCache(FlagDefinitionCache):
    """Share definitions among all processes of one machine, by a file.

    Args:
        path: the file; made with mode 0600 if it is not there. Its directory must exist.
        namespace: keeps fleets apart: one for each PostHog project and environment.
        refresh_interval: seconds between two requests of all these processes to PostHog.
        on_event: called with each `flagcache.events.Event`, on the thread on which it happened.
        options: `flagcache.settings.Options`: times in seconds, and keys.

    Raises:
        ConfigurationError: an argument cannot be right.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        namespace: str,
        *,
        refresh_interval: float = 30.0,
        on_event: Callable[[Event], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings, protection = understand(namespace, refresh_interval, options)
        shared = sqlite_spec(path, namespace, settings, protection)
        super().__init__(namespace, settings, protection, (shared, own_memory()), on_event)


class MemoryFlagDefinitionCache(FlagDefinitionCache):
    """Share definitions among the clients of one process; for tests and single processes.

    Args:
        namespace: all caches of one process with the same namespace share definitions.
        refresh_interval: seconds between two requests of the process to PostHog.
        on_event: called with each `flagcache.events.Event`, on the thread on which it happened.
        options: `flagcache.settings.Options`: times in seconds, and keys.

    Raises:
        ConfigurationError: an argument cannot be right.
    """

    def __init__(
        self,
        namespace: str,
        *,
        refresh_interval: float = 30.0,
        on_event: Callable[[Event], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings, protection = understand(namespace, refresh_interval, options)
        stores = (StoreSpec("memory://", lambda: _hub.store(f"{label_of(protection)}:{namespace}")),)
        super().__init__(namespace, settings, protection, stores, on_event)


def from_url(
    url: str,
    namespace: str,
    *,
    refresh_interval: float = 30.0,
    fallback: Fallback = AUTO,
    on_event: Callable[[Event], object] | None = None,
    **options: Unpack[Options],
) -> FlagDefinitionCache:
    """Make the cache that a URL names.

    Args:
        url: `redis://`, `rediss://` or `unix://` as redis-py takes them; `sqlite:///relative/path` or
            `sqlite:////absolute/path`; `memory://`.
        namespace: keeps fleets apart.
        refresh_interval: seconds between two requests of the whole fleet to PostHog.
        fallback: as of `RedisFlagDefinitionCache`; the others have none.
        on_event: called with each `flagcache.events.Event`, on the thread on which it happened.
        options: `flagcache.settings.Options`: times in seconds, and keys.

    Raises:
        ConfigurationError: the scheme is unknown, or an argument cannot be right.
    """
    scheme = scheme_of(url)
    if scheme in ("redis", "rediss", "unix"):
        return RedisFlagDefinitionCache(
            url, namespace, refresh_interval=refresh_interval, fallback=fallback, on_event=on_event, **options
        )
    if fallback is not None and fallback != AUTO:
        raise ConfigurationError(f"only a cache on Redis has a fallback store, not one on {scheme}://")
    if scheme == "sqlite":
        return SqliteFlagDefinitionCache(
            path_of(url), namespace, refresh_interval=refresh_interval, on_event=on_event, **options
        )
    if scheme == "memory":
        return MemoryFlagDefinitionCache(namespace, refresh_interval=refresh_interval, on_event=on_event, **options)
    raise ConfigurationError(f"unknown scheme {scheme!r}: use redis://, rediss://, unix://, sqlite:/// or memory://")
