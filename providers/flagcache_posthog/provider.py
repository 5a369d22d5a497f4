"""The caches that a PostHog client takes as its `flag_definition_cache_provider`.

Each is the SDK's protocol (posthog 7.91, `flag_definition_cache.py`) over one `flagcache.coordinator.Coordinator`; they
differ only in the store behind it. Constructing one connects to nothing and starts nothing, so that it can be made
before a fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from posthog.client import Client
from posthog.flag_definition_cache import FlagDefinitionCacheData
from typing_extensions import Unpack

from flagcache.codec import label_of
from flagcache.coordinator import Coordinator
from flagcache.errors import ConfigurationError
from flagcache.events import Event, Events, log_events
from flagcache.fallback import AUTO, Fallback, fallback_specs, own_memory
from flagcache.plan import Plan
from flagcache.protection import Protection
from flagcache.settings import Options, Settings
from flagcache.status import Status
from flagcache.stores.memory import MemoryHub
from flagcache.tiers import StoreSpec
from flagcache_posthog._arguments import checked_path, path_of, scheme_of, understand
from flagcache_posthog._lifecycle import remember
from flagcache_posthog._strays import stray_of
from flagcache_posthog.attach import AttachedClient
from flagcache_posthog.definitions import PostHogVendor

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

_Client = TypeVar("_Client", bound=Client)


class FlagDefinitionCache:
    """What all caches have in common: the SDK's four methods, and `status`.

    Made by its subclasses and by `from_url`, not by users.
    """

    def __init__(
        self,
        namespace: str,
        settings: Settings,
        protection: Protection,
        stores: tuple[StoreSpec, ...],
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        events = Events()
        events.subscribe(log_events)
        if on_event is not None:
            events.subscribe(on_event)
        self._namespace = namespace
        self._settings = settings
        self._vendor = PostHogVendor()
        self._attached: tuple[AttachedClient, ...] = ()
        self._coordinator = Coordinator(Plan(namespace, settings, self._vendor, stores, events, protection=protection))

    def attach(self, client: _Client) -> _Client:
        """Tie a client to this cache: changes are pushed to it, and the fleet fetches with its keys.

        To be called once for a client, before or after it was loaded, also before a fork; a second call does nothing.
        The client is held weakly. Nothing is started in a process whose clients never poll.

        Args:
            client: made with this cache as its `flag_definition_cache_provider`, or the global one: `posthog.setup()`.

        Returns:
            The same client.

        Raises:
            ConfigurationError: it is no `posthog.Posthog`, or of another project than a client attached before.
        """
        if any(attached.is_for(client) for attached in self._attached):
            return client
        attached = AttachedClient(client, self._vendor, self._settings)
        if any(other.project != attached.project for other in self._attached if not other.gone):
            raise ConfigurationError(
                f"the clients of one cache share one project's definitions: {self._namespace!r} already has a client"
                " of another project; give each project a cache and a namespace of its own"
            )
        self._attached = (*(other for other in self._attached if not other.gone), attached)
        self._coordinator.attach(attached)
        remember(client)
        return client

    def should_fetch_flag_definitions(self) -> bool:
        """Whether the calling thread is to fetch from PostHog; asked by the SDK before each poll."""
        return stray_of() is None and self._coordinator.should_fetch()

    def get_flag_definitions(self) -> FlagDefinitionCacheData | None:
        """The fleet's definitions; asked by the SDK when it is not to fetch.

        Waits for the first ones, once in a process and no longer than `cold_start_wait`; then answers empty ones.
        """
        if (stray := stray_of()) is not None:  # it keeps what it has; without flags None would send it to fetch
            return None if stray.feature_flags else cast("FlagDefinitionCacheData", self._vendor.empty())
        return cast("FlagDefinitionCacheData | None", self._coordinator.definitions())

    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> None:
        """Share what the SDK has just fetched; called by the SDK."""
        self._coordinator.received(data)

    def shutdown(self) -> None:
        """Hand the leadership over and close connections; called by `client.shutdown()`.

        A client that was handed in stays open. The cache can be used again afterwards.
        """
        self._coordinator.shutdown()

    def ready(self) -> bool:
        """Whether this process holds definitions: for a readiness probe. Asks nobody, and returns at once.

        Never to be tied to liveness: where PostHog and the store are away, a restart only loses what a process holds.
        """
        return self._coordinator.ready()

    def status(self) -> Status:
        """What this process knows: role, version, age, store, namespace. Asks nobody; never shows a password."""
        return self._coordinator.status()

    def __repr__(self) -> str:
        status = self.status()
        age = "none" if status.age is None else f"{status.age:.1f}s"
        return (
            f"<{type(self).__name__} namespace={self._namespace!r} store={status.store!r} role={status.role.value}"
            f" version={status.version[:12] or 'none'!r} age={age}>"
        )


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
        from flagcache.stores.redis import RedisStore  # noqa: PLC0415 - only who uses Redis pays for its import

        settings, protection = understand(namespace, refresh_interval, options)
        if settings.reads_only and fallback == AUTO:
            fallback = None  # often it has no disk that lasts, and nothing to coordinate

        def make() -> RedisStore:
            return RedisStore(
                redis, namespace, timeout=settings.store_timeout, format_and_protection=label_of(protection)
            )

        known = make()
        stores = (
            StoreSpec(known.address, make),
            *fallback_specs(
                fallback,
                known.fingerprint,
                namespace,
                timeout=settings.store_timeout,
                format_and_protection=label_of(protection),
            ),
            own_memory(),
        )
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
        from flagcache.stores.sqlite import SqliteStore  # noqa: PLC0415 - only who uses SQLite pays for its import

        file = checked_path(path)
        settings, protection = understand(namespace, refresh_interval, options)

        def make() -> SqliteStore:
            return SqliteStore(
                file, namespace, timeout=settings.store_timeout, format_and_protection=label_of(protection)
            )

        super().__init__(namespace, settings, protection, (StoreSpec(f"sqlite://{file}", make), own_memory()), on_event)


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
