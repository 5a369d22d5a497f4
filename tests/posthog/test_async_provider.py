"""The awaitable cache: like the other one, bounded in time, and usable on the user's event loops."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import pytest
import redis
import redis.asyncio
from posthog import Posthog
from posthog.client import Client
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache import AsyncRedisFlagDefinitionCache, ConfigurationError, RedisFlagDefinitionCache
from flagcache.settings import Options
from flagcache.status import Role
from flagcache_posthog.testing import PostHogStandIn, make_definitions
from tests.support.attached_clients import ADOPTS
from tests.support.servers import MakeRedis, RedisServer, until

T = TypeVar("T")

DATA = FlagDefinitionCacheData(flags=[{"key": "one"}], group_type_mapping={}, cohorts={})

PATIENT = Options(cold_start_wait=60, challenge_after=300)
"""Settings of a leader whose first lease outlives a test on a slow machine."""

ASYNCHRONOUS = {
    "should_fetch_flag_definitions",
    "get_flag_definitions",
    "on_flag_definitions_received",
    "shutdown",
}
"""The methods that the SDK calls."""


@pytest.fixture
def posthog() -> Iterator[PostHogStandIn]:
    """A PostHog for one test, at revision 1."""
    with PostHogStandIn(make_definitions(5)) as standin:
        yield standin


@contextmanager
def client_of(cache: AsyncRedisFlagDefinitionCache | RedisFlagDefinitionCache, host: str) -> Generator[Posthog]:
    """A client whose poller does not poll during a test; it is shut down at the end."""
    client = Posthog(
        "phc_test",
        secret_key="phs_test",
        host=host,
        poll_interval=3600,
        sync_mode=True,
        flag_definition_cache_provider=cache,
    )
    try:
        yield client
    finally:
        client.shutdown()


def evaluate(client: Posthog) -> object:
    """Evaluate a flag, which loads the definitions of a client that has none."""
    return client.evaluate_flags("user", only_evaluate_locally=True).get_flag("flag-0")


def ticks_during(work: Coroutine[Any, Any, T]) -> tuple[T, int]:
    """Run a coroutine on a new loop; return how often the loop ran meanwhile, at most every 10 ms."""

    async def tick(counted: list[None]) -> None:
        while True:
            await asyncio.sleep(0.01)
            counted.append(None)

    async def both() -> tuple[T, int]:
        counted: list[None] = []
        ticking = asyncio.create_task(tick(counted))
        result = await work
        ticking.cancel()
        return result, len(counted)

    return asyncio.run(both())


# --- parity -----------------------------------------------------------------------------------------------------------


def public(of: type) -> dict[str, object]:
    """The public attributes of a class, and its constructor."""
    return {name: value for name, value in inspect.getmembers(of) if not name.startswith("_") or name == "__init__"}


def test_it_has_the_names_of_the_synchronous_one() -> None:
    """It has exactly the other cache's names; methods that the SDK does not call are the same objects."""
    ours, theirs = public(AsyncRedisFlagDefinitionCache), public(RedisFlagDefinitionCache)
    assert set(ours) == set(theirs)
    assert {name for name in ours if ours[name] is not theirs[name]} == ASYNCHRONOUS | {"__init__"}


@pytest.mark.parametrize("name", sorted(ASYNCHRONOUS | {"__init__"}))
def test_it_has_the_signatures_of_the_synchronous_one(name: str) -> None:
    """Its arguments and defaults are the same; each result is an awaitable of what the other returns."""
    ours, theirs = (
        inspect.signature(cast("Callable[..., object]", public(of)[name]))
        for of in (AsyncRedisFlagDefinitionCache, RedisFlagDefinitionCache)
    )
    kinds = [[(p.name, p.kind, p.default) for p in signature.parameters.values()] for signature in (ours, theirs)]
    assert kinds[0] == kinds[1]
    annotations = [
        {p.name: p.annotation for p in signature.parameters.values() if p.name != "redis"}
        for signature in (ours, theirs)
    ]
    assert annotations[0] == annotations[1]
    if name != "__init__":
        assert ours.return_annotation == f"Coroutine[Any, Any, {theirs.return_annotation}]"


def test_it_is_shown_as_the_synchronous_one() -> None:
    """Its repr has its own name; the store and its fallback file are the same."""
    url = "redis://:s3cret@127.0.0.1:1/3"
    ours = AsyncRedisFlagDefinitionCache(redis.asyncio.Redis.from_url(url), "team")
    theirs = RedisFlagDefinitionCache(url, "team")
    assert repr(ours) == repr(theirs).replace("RedisFlag", "AsyncRedisFlag", 1)
    assert ours.status().store == theirs.status().store


@pytest.mark.parametrize(
    ("make", "given", "wanted"),
    [
        (AsyncRedisFlagDefinitionCache, redis.Redis(), "synchronous client: RedisFlagDefinitionCache"),
        (RedisFlagDefinitionCache, redis.asyncio.Redis(), "asyncio client: AsyncRedisFlagDefinitionCache"),
        (AsyncRedisFlagDefinitionCache, None, "redis.asyncio.Redis .* not builtins.NoneType"),
    ],
)
def test_a_client_of_the_other_kind_is_refused(make: Callable[..., object], given: object, wanted: str) -> None:
    """The constructor refuses it, with the name of the class that takes it."""
    with pytest.raises(ConfigurationError, match=wanted):
        make(given, "team")


# --- the user's event loop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode_responses", [False, True])
def test_it_shares_with_the_synchronous_one(
    redis_server: RedisServer, namespace: str, *, decode_responses: bool
) -> None:
    """It shares with the synchronous cache while a user's loop awaits it and uses the same asyncio client."""

    async def share() -> None:
        client = redis.asyncio.Redis.from_url(redis_server.url, decode_responses=decode_responses)
        own = await client.client_id()
        cache = AsyncRedisFlagDefinitionCache(client, namespace)
        assert await cache.should_fetch_flag_definitions() is True
        await cache.on_flag_definitions_received(DATA)
        assert other.should_fetch_flag_definitions() is False
        assert other.get_flag_definitions() == DATA
        assert await cache.get_flag_definitions() == DATA
        assert (cache.status().role, cache.ready()) == (Role.LEADER, True)
        await cache.shutdown()
        assert await client.client_id() == own
        await client.aclose()

    other = RedisFlagDefinitionCache(redis_server.url, namespace)
    asyncio.run(share())
    assert other.should_fetch_flag_definitions() is False
    assert other.status().role is Role.LEADER
    other.shutdown()


def test_several_loops_may_use_one(redis_server: RedisServer, namespace: str) -> None:
    """Loops on several threads, or one after the other, may use one cache; a grant is its thread's, and given once."""
    cache = AsyncRedisFlagDefinitionCache(redis_server.url, namespace)
    start = threading.Barrier(4)

    async def ask() -> tuple[bool, object]:
        start.wait(10)
        fetch = await cache.should_fetch_flag_definitions()
        if fetch:
            await cache.on_flag_definitions_received(DATA)
        return fetch, await cache.get_flag_definitions()

    with ThreadPoolExecutor(4) as pool:
        asked = [future.result() for future in [pool.submit(asyncio.run, ask()) for _ in range(4)]]
    assert sorted(fetch for fetch, _ in asked) == [False, False, False, True]
    assert [definitions for _, definitions in asked] == [DATA] * 4
    assert asyncio.run(cache.get_flag_definitions()) == DATA
    asyncio.run(cache.shutdown())


def test_a_loop_is_not_blocked_while_a_call_waits(redis_server: RedisServer, namespace: str) -> None:
    """Neither waiting for another's first fetch nor giving up blocks the loop; the next call has what came."""
    leader = RedisFlagDefinitionCache(redis_server.url, namespace, **PATIENT)
    cache = AsyncRedisFlagDefinitionCache(redis_server.url, namespace, cold_start_wait=10)
    assert leader.should_fetch_flag_definitions() is True

    async def wait() -> float:
        began = time.monotonic()
        assert await cache.should_fetch_flag_definitions() is False
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(cache.get_flag_definitions(), 0.3)
        return time.monotonic() - began

    took, ticks = ticks_during(wait())
    assert took < 5
    assert ticks >= 5
    leader.on_flag_definitions_received(DATA)
    assert asyncio.run(cache.get_flag_definitions()) == DATA
    asyncio.run(cache.shutdown())
    leader.shutdown()


def test_a_client_that_is_first_used_on_a_loop_fetches_once(
    redis_server: RedisServer, namespace: str, posthog: PostHogStandIn
) -> None:
    """The SDK asks, fetches and delivers on the thread that runs the loop: each call knows of the one before."""

    async def first_use(client: Posthog) -> object:
        return evaluate(client)

    cache = AsyncRedisFlagDefinitionCache(redis_server.url, namespace)
    with client_of(cache, posthog.url) as client:
        assert asyncio.run(first_use(client)) is True
        assert posthog.requests == 1
        assert cache.status().age is not None  # adopted with its grant
        reader = RedisFlagDefinitionCache(redis_server.url, namespace)
        reader.should_fetch_flag_definitions()
        assert reader.status().version == cache.status().version
        reader.shutdown()


# --- many threads, and trouble ----------------------------------------------------------------------------------------


def all_at_once(client: Posthog) -> tuple[list[object], float]:
    """Evaluate on eight threads at once; returns the values, and the seconds until the last had its own."""
    start = threading.Barrier(8)

    def evaluate_at_start(_number: int) -> object:
        start.wait(10)
        return evaluate(client)

    with ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        values = list(pool.map(evaluate_at_start, range(8)))
    return values, time.monotonic() - began


def test_eight_cold_threads_cost_one_request(redis_server: RedisServer, namespace: str) -> None:
    """Only the thread with the grant fetches."""
    with PostHogStandIn(delay=0.2) as posthog:
        with client_of(AsyncRedisFlagDefinitionCache(redis_server.url, namespace), posthog.url) as client:
            values, _ = all_at_once(client)
        assert values == [True] * 8
        assert posthog.requests == 1


def test_eight_cold_threads_wait_together(redis_server: RedisServer, namespace: str, posthog: PostHogStandIn) -> None:
    """While another's first fetch hangs, all continue after one common wait, not after one wait each."""
    leader = RedisFlagDefinitionCache(redis_server.url, namespace, **PATIENT)
    assert leader.should_fetch_flag_definitions() is True
    cache = AsyncRedisFlagDefinitionCache(redis_server.url, namespace, cold_start_wait=1, challenge_after=300)
    with client_of(cache, posthog.url) as client:
        values, took = all_at_once(client)
    leader.shutdown()
    assert values == [None] * 8
    assert posthog.requests == 0
    assert 0.9 < took < 4


def test_a_frozen_redis_is_not_waited_for_by_each(make_redis: MakeRedis, namespace: str) -> None:
    """With everything down, eight cold threads continue within one timeout and one wait, also at shutdown."""
    server = make_redis()
    cache = AsyncRedisFlagDefinitionCache(
        redis.asyncio.Redis.from_url(server.url), namespace, cold_start_wait=1, store_timeout=0.3, fallback=None
    )
    server.freeze()
    with client_of(cache, "http://127.0.0.1:1") as client:
        values, took = all_at_once(client)
        began = time.monotonic()
        client.shutdown()
        ending = time.monotonic() - began
    assert values == [None] * 8
    assert took < 4
    assert ending < 4


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_a_loop", [False, True], ids=["on a thread", "on a loop"])
def test_nothing_is_left_after_shutdown(
    make_redis: MakeRedis, namespace: str, posthog: PostHogStandIn, *, on_a_loop: bool
) -> None:
    """After shutdown no thread or connection of the cache, the SDK's loop or the client passed in is left."""
    server = make_redis()
    admin = server.client()
    before = set(threading.enumerate())
    cache = AsyncRedisFlagDefinitionCache(redis.asyncio.Redis.from_url(server.url), namespace, refresh_interval=0.5)

    async def shut_down(client: Posthog) -> None:
        assert await cache.get_flag_definitions() is not None
        client.shutdown()

    with client_of(cache, posthog.url) as client:
        cache.attach(client)
        assert evaluate(client) is True
        until(lambda: connections(admin) >= 2, what="the listener to be subscribed")
        if on_a_loop:
            asyncio.run(shut_down(client))
    until(lambda: not left(before), what="threads to end")
    until(lambda: connections(admin) == 0, what="connections to be closed")


def left(before: set[threading.Thread]) -> list[str]:
    """Return the new threads, without those of the stand-in."""
    new = (thread for thread in threading.enumerate() if thread not in before)
    return [thread.name for thread in new if "process_request_thread" not in thread.name]


def connections(admin: redis.Redis) -> int:
    """Return how many connections a server has beside the admin's."""
    return len(cast("list[object]", admin.client_list())) - 1


def test_a_change_is_pushed_through_it_also_while_it_is_shut_down(
    redis_server: RedisServer, namespace: str, posthog: PostHogStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own thread runs an attached client's poll, and neither waits for the SDK's event loop nor restarts it."""
    pushing, released = threading.Event(), threading.Event()

    def hold(being_adopted: Client, *args: object, **options: object) -> None:
        if threading.current_thread().name == "flagcache-listener" and being_adopted is client:
            pushing.set()
            assert released.wait(10)
        adopt(being_adopted, *args, **options)

    adopt = cast("Callable[..., None]", getattr(Client, ADOPTS))

    async def shut_down() -> None:
        client.shutdown()

    before = set(threading.enumerate())
    options = Options(store_timeout=0.3)
    fetcher = RedisFlagDefinitionCache(redis_server.url, namespace, refresh_interval=0.1, **options)
    cache = AsyncRedisFlagDefinitionCache(redis_server.url, namespace, **options)
    with client_of(fetcher, posthog.url) as other, client_of(cache, posthog.url) as client:
        assert evaluate(other) is True
        assert evaluate(cache.attach(client)) is True
        monkeypatch.setattr(Client, ADOPTS, hold)
        posthog.set_flag("flag-0", active=False)

        def pushed() -> bool:
            other.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
            return pushing.is_set()

        until(pushed, every=0.05, what="the change to be pushed")
        asyncio.run(shut_down())
        released.set()
        until(lambda: evaluate(client) is False, what="the push to end")
    until(lambda: not left(before), what=f"threads to end: {left(before)}")
