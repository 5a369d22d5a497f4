"""The cache for applications that have a `redis.asyncio` client, with awaitable methods.

PostHog's synchronous client calls it, and awaits a provider's results on its own event loop
(`_resolve_flag_definition_cache_provider_result`, posthog 7.37 to 7.91). `AsyncPosthog` evaluates nothing locally and
takes no provider. So this is `RedisFlagDefinitionCache` except for what its four methods return, and one fleet may have
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
from flagcache_posthog._base import CacheBase
from flagcache_posthog._calling_client import calling_for
from flagcache_posthog._options import parse_options
from flagcache_posthog._store_specs import redis_stores
from flagcache_posthog._unknown_options import refuses_unknown_options

__all__ = ["AsyncRedisFlagDefinitionCache"]

_T = TypeVar("_T")


class AsyncRedisFlagDefinitionCache(CacheBase):
    """Share definitions among all processes that reach one Redis; like `RedisFlagDefinitionCache`, but awaitable.

    It can be awaited on any asyncio event loop, and on several. Under gevent use `RedisFlagDefinitionCache`: there the
    SDK's event loop runs in the one thread that all greenlets share.

    Args:
        redis: a `redis.asyncio.Redis`, a client of `redis.asyncio.sentinel.Sentinel.master_for`, a
            `redis.asyncio.RedisCluster`, or a `redis://`, `rediss://` or `unix://` URL. From a client only address, TLS
            and credentials are taken; it is never used or closed.
        namespace: separates fleets: use one for each PostHog project and environment.
        refresh_interval: seconds between two requests of the whole fleet to PostHog.
        fallback: as in `RedisFlagDefinitionCache`.
        on_event: called with each `flagcache.events.Event`, on the thread of the event; never on one that runs an
            event loop.
        poll_interval: this and all below: as in `RedisFlagDefinitionCache`.

    Raises:
        ConfigurationError: an argument is invalid.
    """

    @refuses_unknown_options
    def __init__(  # noqa: PLR0913 - each option is its own keyword: help() and editors show them
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
        settings, protection = parse_options(locals())
        stores = redis_stores(resolve_asyncio(redis), namespace, fallback, settings, protection)
        super().__init__(namespace, settings, protection, stores, on_event)

    def should_fetch_flag_definitions(self) -> Coroutine[Any, Any, bool]:
        """Whether the calling thread must fetch from PostHog; the SDK calls this before each poll."""
        return self._answer(self._should_fetch)

    def get_flag_definitions(self) -> Coroutine[Any, Any, FlagDefinitionCacheData | None]:
        """Return the fleet's definitions; the SDK calls this if it doesn't fetch.

        A first load waits at most `cold_start_wait`: for the first definitions, or for a fetch under way if the stored
        ones are older than `first_load_max_age`. Later loads don't wait. Without definitions it returns empty ones.
        """
        return self._answer(self._definitions)

    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> Coroutine[Any, Any, None]:
        """Share the definitions that the SDK has just fetched; the SDK calls this."""
        return self._answer(lambda: self._received(data))

    def shutdown(self) -> Coroutine[Any, Any, None]:
        """Hand over the lease and close connections; `client.shutdown()` calls this.

        A Redis client that you passed in stays open. The cache can be used again afterwards.
        """
        return self._answer(self._shutdown)

    def _answer(self, call: Callable[[], _T]) -> Coroutine[Any, Any, _T]:
        if self._coordinator.pushing:
            # The listener runs a client's poll. The SDK accepts plain results too; to await one, it would have to wait
            # for other threads that await, such as a shutdown that waits for the listener. The user's own provider
            # around this one may call it on an event loop of this very thread; it then gets an awaitable.
            return cast("Coroutine[Any, Any, _T]", answered(call()))
        client = self._caller  # it is not on the stack of a thread that makes the call for an event loop

        def carry_out() -> _T:
            with calling_for(client):
                return call()

        return awaitable(carry_out)
