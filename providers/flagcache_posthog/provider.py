"""The caches that a PostHog client takes as its `flag_definition_cache_provider`.

Each implements the SDK's protocol (posthog 7.91, `flag_definition_cache.py`) with one
`flagcache.coordinator.Coordinator`; they differ only in the store. The constructor connects to nothing and starts
nothing, so it can run before a fork. The cache on Redis is in `_redis_provider`, so that other caches don't import
redis-py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache.encoding.codec import label_of
from flagcache.errors import ConfigurationError
from flagcache.events import Event
from flagcache.settings import KeyMaterial
from flagcache.stores.fallback import AUTO, Fallback
from flagcache.stores.memory import MemoryHub
from flagcache.stores.spec import REDIS_SCHEMES, StoreSpec
from flagcache_posthog._base import CacheBase
from flagcache_posthog._options import CommonOptions, common_options, parse_options, path_of, scheme_of
from flagcache_posthog._store_specs import process_memory_spec, refuse_expiry, sqlite_spec
from flagcache_posthog._unknown_options import refuses_unknown_options

__all__ = ["FlagDefinitionCache", "MemoryFlagDefinitionCache", "SqliteFlagDefinitionCache", "from_url"]

_hub = MemoryHub()


class FlagDefinitionCache(CacheBase):
    """The base of all synchronous caches: the SDK's four methods, and `status`.

    Users create a subclass, or call `from_url`.
    """

    def should_fetch_flag_definitions(self) -> bool:
        """Whether the calling thread must fetch from PostHog; the SDK calls this before each poll."""
        return self._should_fetch()

    def get_flag_definitions(self) -> FlagDefinitionCacheData | None:
        """Return the fleet's definitions; the SDK calls this if it doesn't fetch.

        A first load waits at most `cold_start_wait`: for the first definitions, or for a fetch under way if the stored
        ones are older than `first_load_max_age`. Later loads don't wait. Without definitions it returns empty ones.
        """
        return self._definitions()

    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> None:
        """Share the definitions that the SDK has just fetched; the SDK calls this."""
        self._received(data)

    def shutdown(self) -> None:
        """Hand over the lease and close connections; `client.shutdown()` calls this.

        A Redis client that you passed in stays open. The cache can be used again afterwards.
        """
        self._shutdown()


class SqliteFlagDefinitionCache(FlagDefinitionCache):
    """Share definitions among all processes of one machine, in a file.

    Args:
        path: the file; it is created with mode 0600 if it doesn't exist. Its directory must exist.
        namespace: separates fleets: use one for each PostHog project and environment.
        refresh_interval: seconds between two requests of all these processes to PostHog.
        on_event: called with each `flagcache.events.Event` on the thread of the event, which waits for it;
            `DefinitionsChanged` is emitted once the attached clients have the flags, or a second later.
        poll_interval: this and all below: as in `RedisFlagDefinitionCache`.

    Raises:
        ConfigurationError: an argument is invalid.
    """

    @refuses_unknown_options
    def __init__(  # noqa: PLR0913 - each option is its own keyword: help() and editors show them
        self,
        path: str | os.PathLike[str],
        namespace: str,
        *,
        refresh_interval: float = 30.0,
        on_event: Callable[[Event], object] | None = None,
        poll_interval: float | None = None,
        cold_start_wait: float | None = None,
        first_load_max_age: float | None = None,
        lease: float | None = None,
        challenge_after: float | None = None,
        stale_after: float | None = None,
        forget_after: float | None = None,
        store_timeout: float = 1.0,
        fetch_timeout: float = 10.0,
        fetch_total_timeout: float | None = None,
        backoff_ceiling: float | None = None,
        on_quota_limited: Literal["clear", "keep"] = "clear",
        max_decoded_bytes: int = 16 * 1024 * 1024,
        role: Literal["worker", "reader"] = "worker",
        auto_attach: bool = True,
        signing_key: KeyMaterial | None = None,
        encryption_key: KeyMaterial | None = None,
    ) -> None:
        settings, protection = parse_options(locals())
        shared = sqlite_spec(path, namespace, settings, protection)
        super().__init__(namespace, settings, protection, (shared, process_memory_spec()), on_event)


class MemoryFlagDefinitionCache(FlagDefinitionCache):
    """Share definitions among the clients of one process; for tests and single processes.

    The definitions of a namespace outlive its caches, and a later cache starts with them; `reset` deletes them. The
    latest 256 namespaces are kept.

    Args:
        namespace: all caches of one process with the same namespace share definitions.
        refresh_interval: seconds between two requests of the process to PostHog.
        on_event: called with each `flagcache.events.Event` on the thread of the event, which waits for it;
            `DefinitionsChanged` is emitted once the attached clients have the flags, or a second later.
        poll_interval: this and all below: as in `RedisFlagDefinitionCache`.

    Raises:
        ConfigurationError: an argument is invalid.
    """

    @refuses_unknown_options
    def __init__(  # noqa: PLR0913 - each option is its own keyword: help() and editors show them
        self,
        namespace: str,
        *,
        refresh_interval: float = 30.0,
        on_event: Callable[[Event], object] | None = None,
        poll_interval: float | None = None,
        cold_start_wait: float | None = None,
        first_load_max_age: float | None = None,
        lease: float | None = None,
        challenge_after: float | None = None,
        stale_after: float | None = None,
        forget_after: float | None = None,
        store_timeout: float = 1.0,
        fetch_timeout: float = 10.0,
        fetch_total_timeout: float | None = None,
        backoff_ceiling: float | None = None,
        on_quota_limited: Literal["clear", "keep"] = "clear",
        max_decoded_bytes: int = 16 * 1024 * 1024,
        role: Literal["worker", "reader"] = "worker",
        auto_attach: bool = True,
        signing_key: KeyMaterial | None = None,
        encryption_key: KeyMaterial | None = None,
    ) -> None:
        settings, protection = parse_options(locals())
        refuse_expiry(settings)
        name = f"{label_of(protection)}:{namespace}"
        stores = (StoreSpec("memory://", lambda: _hub.store(name), private=True),)
        super().__init__(namespace, settings, protection, stores, on_event)

    @staticmethod
    def reset(namespace: str | None = None) -> None:
        """Delete the definitions of this process's namespaces, for instance between two tests.

        Caches that are created later start without definitions; existing ones keep what they hold.

        Args:
            namespace: the only one to delete. None: all.
        """
        _hub.forget(lambda name: namespace is None or name.partition(":")[2] == namespace)


@refuses_unknown_options
def from_url(  # noqa: D417, PLR0913 - as the constructors
    url: str,
    namespace: str,
    *,
    refresh_interval: float = 30.0,
    fallback: Fallback = AUTO,
    on_event: Callable[[Event], object] | None = None,
    poll_interval: float | None = None,
    cold_start_wait: float | None = None,
    first_load_max_age: float | None = None,
    lease: float | None = None,
    challenge_after: float | None = None,
    stale_after: float | None = None,
    forget_after: float | None = None,
    store_timeout: float = 1.0,
    fetch_timeout: float = 10.0,
    fetch_total_timeout: float | None = None,
    backoff_ceiling: float | None = None,
    on_quota_limited: Literal["clear", "keep"] = "clear",
    max_decoded_bytes: int = 16 * 1024 * 1024,
    role: Literal["worker", "reader"] = "worker",
    auto_attach: bool = True,
    signing_key: KeyMaterial | None = None,
    encryption_key: KeyMaterial | None = None,
) -> FlagDefinitionCache:
    """Create the cache that a URL names.

    Args:
        url: `redis://`, `rediss://` or `unix://` as in redis-py, also as `valkey://` and `valkeys://`;
            `redis+sentinel://host:26379,host2:26379/mymaster/0`; `redis+cluster://host:6379,host2:6379`;
            `sqlite:///relative/path` or `sqlite:////absolute/path`; `memory://`.
        namespace: separates fleets.
        refresh_interval: seconds between two requests of the whole fleet to PostHog.
        fallback: as in `RedisFlagDefinitionCache`; other caches have none.
        on_event: called with each `flagcache.events.Event` on the thread of the event, which waits for it;
            `DefinitionsChanged` is emitted once the attached clients have the flags, or a second later.
        poll_interval: this and all below: as in `RedisFlagDefinitionCache`.

    Raises:
        ConfigurationError: the scheme is unknown, or an argument is invalid.
    """
    return _named_by(url, namespace, fallback, common_options(locals()))


def _named_by(url: str, namespace: str, fallback: Fallback, options: CommonOptions) -> FlagDefinitionCache:
    scheme = scheme_of(url)
    if scheme in REDIS_SCHEMES:
        # Imported here, so that other caches don't import redis-py.
        from flagcache_posthog._redis_provider import RedisFlagDefinitionCache  # noqa: PLC0415

        return RedisFlagDefinitionCache(url, namespace, fallback=fallback, **options)
    if fallback is not None and fallback != AUTO:
        raise ConfigurationError(f"only a cache on Redis has a fallback store, not one on {scheme}://")
    if scheme == "sqlite":
        return SqliteFlagDefinitionCache(path_of(url), namespace, **options)
    if scheme == "memory":
        return MemoryFlagDefinitionCache(namespace, **options)
    raise ConfigurationError(
        f"unknown scheme {scheme!r}: use redis://, rediss://, unix://, redis+sentinel://, redis+cluster://, valkey://,"
        " sqlite:/// or memory://"
    )
