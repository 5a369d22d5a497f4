"""The cache for applications that have a `redis.asyncio` client at hand, and for who wants to await it.

Who calls it is PostHog's synchronous client, which awaits a provider's answers on an event loop of its own
(`_resolve_flag_definition_cache_provider_result`, posthog 7.37 to 7.91); `AsyncPosthog` evaluates nothing locally and
takes no provider. So this is `RedisFlagDefinitionCache` but for what its four methods return, and one fleet may have
workers of both.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, cast

from posthog.flag_definition_cache import FlagDefinitionCacheData
from typing_extensions import Unpack

from flagcache.events import Event
from flagcache.runtime.awaiting import awaitable
from flagcache.settings import Options
from flagcache.stores.fallback import AUTO, Fallback
from flagcache_posthog._arguments import understand
from flagcache_posthog._base import CacheBase
from flagcache_posthog._stores import redis_stores

if TYPE_CHECKING:
    import redis.asyncio

__all__ = ["AsyncRedisFlagDefinitionCache"]

_T = TypeVar("_T")


class AsyncRedisFlagDefinitionCache(CacheBase):
    """Share definitions among all processes that reach one Redis; as `RedisFlagDefinitionCache`, but awaitable.

    May be awaited on any event loop of asyncio, and on several. Under gevent take `RedisFlagDefinitionCache`: there the
    SDK's event loop runs in the one thread that all greenlets share.

    Args:
        redis: a `redis.asyncio.Redis`, a client of `redis.asyncio.sentinel.Sentinel.master_for`, a
            `redis.asyncio.RedisCluster`, or a `redis://`, `rediss://` or `unix://` URL. Of a client only address, TLS
            and credentials are taken; it is never closed nor used.
        namespace: keeps fleets apart: one for each PostHog project and environment.
        refresh_interval: seconds between two requests of the whole fleet to PostHog.
        fallback: as of `RedisFlagDefinitionCache`.
        on_event: called with each `flagcache.events.Event`, on the thread on which it happened; never on one that runs
            an event loop.
        options: `flagcache.settings.Options`: times in seconds, and keys.

    Raises:
        ConfigurationError: an argument cannot be right.
    """

    def __init__(
        self,
        redis: redis.asyncio.Redis | redis.asyncio.RedisCluster | str,
        namespace: str,
        *,
        refresh_interval: float = 30.0,
        fallback: Fallback = AUTO,
        on_event: Callable[[Event], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        from flagcache.stores.redis.asyncio_address import resolve_asyncio  # noqa: PLC0415 - only who uses Redis pays for it

        settings, protection = understand(namespace, refresh_interval, options)
        stores = redis_stores(resolve_asyncio(redis), namespace, fallback, settings, protection)
        super().__init__(namespace, settings, protection, stores, on_event)

    def should_fetch_flag_definitions(self) -> Coroutine[Any, Any, bool]:
        """Whether the calling thread is to fetch from PostHog; asked by the SDK before each poll."""
        return self._answer(self._should_fetch)

    def get_flag_definitions(self) -> Coroutine[Any, Any, FlagDefinitionCacheData | None]:
        """The fleet's definitions; asked by the SDK when it is not to fetch.

        Waits for the first ones, once in a process and no longer than `cold_start_wait`; then answers empty ones.
        """
        return self._answer(lambda: cast("FlagDefinitionCacheData | None", self._coordinator.definitions()))

    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> Coroutine[Any, Any, None]:
        """Share what the SDK has just fetched; called by the SDK."""
        return self._answer(lambda: self._coordinator.received(data))

    def shutdown(self) -> Coroutine[Any, Any, None]:
        """Hand the leadership over and close connections; called by `client.shutdown()`.

        A client that was handed in stays open. The cache can be used again afterwards.
        """
        return self._answer(self._coordinator.shutdown)

    def _answer(self, call: Callable[[], _T]) -> Coroutine[Any, Any, _T]:
        if self._coordinator.pushing:
            # The listener runs a client's poll: the SDK takes plain answers too, and to await one it would have to wait
            # for whoever else awaits, be it the shutdown that is waiting for the listener.
            return cast("Coroutine[Any, Any, _T]", call())
        return awaitable(call)
