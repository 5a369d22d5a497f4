"""The cache for applications that have a `redis.asyncio` client at hand, and for who wants to await it.

Who calls it is PostHog's synchronous client, which awaits a provider's answers on an event loop of its own
(`_resolve_flag_definition_cache_provider_result`, posthog 7.37 to 7.91); `AsyncPosthog` evaluates nothing locally and
takes no provider. So this is `RedisFlagDefinitionCache` but for what its four methods return, and one fleet may have
workers of both.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar, cast

import redis.asyncio
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache.events import Event
from flagcache.runtime.awaiting import answered, awaitable
from flagcache.settings import KeyMaterial
from flagcache.stores.fallback import AUTO, Fallback
from flagcache.stores.redis.asyncio_address import resolve_asyncio
from flagcache_posthog._arguments import understand
from flagcache_posthog._base import CacheBase
from flagcache_posthog._calling_client import calling_for
from flagcache_posthog._mistakes import names_mistakes
from flagcache_posthog._stores import redis_stores

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
        poll_interval: this and all below: as of `RedisFlagDefinitionCache`.

    Raises:
        ConfigurationError: an argument cannot be right.
    """

    @names_mistakes
    def __init__(  # noqa: PLR0913 - each option is a keyword of its own: help() and editors show them
        self,
        redis: redis.asyncio.Redis | redis.asyncio.RedisCluster | str,
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
    ) -> None:
        settings, protection = understand(locals())
        stores = redis_stores(resolve_asyncio(redis), namespace, fallback, settings, protection)
        super().__init__(namespace, settings, protection, stores, on_event)

    def should_fetch_flag_definitions(self) -> Coroutine[Any, Any, bool]:
        """Whether the calling thread is to fetch from PostHog; asked by the SDK before each poll."""
        return self._answer(self._should_fetch)

    def get_flag_definitions(self) -> Coroutine[Any, Any, FlagDefinitionCacheData | None]:
        """The fleet's definitions; asked by the SDK when it is not to fetch.

        A first load waits at most `cold_start_wait`: for the first definitions, or for a fetch under way if the stored
        ones are older than `first_load_max_age`. Later loads don't wait. Without any it returns empty ones.
        """
        return self._answer(self._definitions)

    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> Coroutine[Any, Any, None]:
        """Share what the SDK has just fetched; called by the SDK."""
        return self._answer(lambda: self._received(data))

    def shutdown(self) -> Coroutine[Any, Any, None]:
        """Hand the leadership over and close connections; called by `client.shutdown()`.

        A client that was handed in stays open. The cache can be used again afterwards.
        """
        return self._answer(self._shutdown)

    def _answer(self, call: Callable[[], _T]) -> Coroutine[Any, Any, _T]:
        if self._coordinator.pushing:
            # The listener runs a client's poll: the SDK takes plain answers too, and to await one it would have to wait
            # for whoever else awaits, be it the shutdown that is waiting for the listener. A provider of the user's own
            # that wraps this one may call it on an event loop of this very thread, and then awaits.
            return cast("Coroutine[Any, Any, _T]", answered(call()))
        client = self._caller  # it is not on the stack of a thread that carries the call out for an event loop

        def carry_out() -> _T:
            with calling_for(client):
                return call()

        return awaitable(carry_out)
