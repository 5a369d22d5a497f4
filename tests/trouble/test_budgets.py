"""Whatever the store does, every verb and provider method ends in time, and no failure looks like emptiness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Final, TypeVar, cast

import pytest
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache import RedisFlagDefinitionCache
from flagcache.errors import StoreError
from flagcache.events import Event, StoreLost, StoreRecovered
from flagcache.stores.base import Ask, Envelope, Grant, Meta, Published, Scope
from flagcache.stores.redis.store import RedisStore
from flagcache_posthog import FlagDefinitionCache
from flagcache_posthog.testing import make_definitions
from tests.support.servers import MakeRedis, until
from tests.trouble.redis_failures import TROUBLES, FailingServer

T = TypeVar("T")

BUDGET = 0.4
"""Seconds for one call of the store."""

SLACK = 0.65
"""Seconds that a busy machine may add."""

DATA = cast("FlagDefinitionCacheData", make_definitions(5))

ME = "tester"
ASK = Ask(ME, interval=60_000, lease=60_000, cold_lease=60_000, challenge=600_000)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is closed in the end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=TROUBLES)
def trouble(request: pytest.FixtureRequest, make_redis: MakeRedis, stack: ExitStack, namespace: str) -> FailingServer:
    """Return each trouble in turn, before it begins."""
    return TROUBLES[request.param](make_redis, stack, namespace)


def name_of(request: pytest.FixtureRequest) -> str:
    """Return the test's trouble."""
    name: str = request.node.callspec.params["trouble"]
    return name


def timed(call: Callable[[], T]) -> T:
    """Return what a call returns, and fail if it took longer than one call of a store may."""
    began = time.monotonic()
    try:
        return call()
    finally:
        took = time.monotonic() - began
        assert took < BUDGET + SLACK, f"took {took:.2f} s"


ALL: Final = {
    *("poll", "publish", "confirm", "fail", "renew", "release", "report", "discard", "inspect", "clear", "forget"),
    "subscribe",
}


def verbs(store: RedisStore, grant: Grant, meta: Meta) -> dict[str, Callable[[], object]]:
    """Every verb, as a leader uses it."""
    later = Grant(grant.epoch, grant.as_of + 1, grant.at)
    newer = meta._replace(version="v2", as_of=later.as_of)
    return {
        "poll": lambda: store.poll(ASK),
        "publish": lambda: store.publish(ME, Envelope(newer, b"more"), fresh=True, lease=60_000),
        "confirm": lambda: store.confirm(ME, meta.version, later, lease=60_000),
        "fail": lambda: store.fail(ME, grant.as_of, Scope.EVERYBODY, status=500, retry_after=60_000),
        "renew": lambda: store.renew(ME, 60_000),
        "release": lambda: store.release(ME, idle=False),
        "report": lambda: store.report(ME, meta.version, 60_000),
        "discard": lambda: store.discard(ME, meta.version),
        "inspect": store.inspect,
        "clear": store.clear,
        "forget": store.forget,
        "subscribe": lambda: store.subscribe().close(),
    }


HINDERED: Final = {
    "READONLY": {"poll", "publish", "confirm", "fail", "renew", "release", "report", "discard", "clear", "forget"},
    "OOM": ALL
    - {"subscribe", "inspect", "clear", "forget"},  # what only reads, or frees memory, too, once a write was refused
    "LOADING": ALL - {"subscribe"},
    "MOVED": ALL - {"subscribe"},
}
"""The verbs that fail if not all do: some servers can read but not write, or publish without keys."""


def test_every_verb_ends_in_time_and_says_what_is_wrong(
    trouble: FailingServer, request: pytest.FixtureRequest, namespace: str
) -> None:
    """A verb in trouble raises StoreError within its budget, over old and new connections; none returns "nothing"."""
    hindered = HINDERED.get(name_of(request), ALL)
    with closing(RedisStore(trouble.url, namespace, timeout=BUDGET)) as store:
        grant = store.poll(ASK).grant
        assert grant is not None
        meta = Meta("v1", grant.epoch, grant.as_of, grant.at, grant.at)
        assert store.publish(ME, Envelope(meta, b"some"), fresh=True, lease=60_000) is Published.STORED
        trouble.begin()
        if "inspect" not in hindered:
            assert timed(store.inspect).meta == meta
        for name, verb in verbs(store, grant, meta).items():
            if name in hindered:
                with pytest.raises(StoreError, match=store.address.split("?", maxsplit=1)[0]):
                    pytest.fail(f"{name}: {timed(verb)}")
            else:
                timed(verb)


class TimedCache:
    """A cache whose methods are timed, and its events."""

    def __init__(self, url: str, namespace: str) -> None:
        self.events: list[Event] = []
        self.cache: FlagDefinitionCache = RedisFlagDefinitionCache(
            url,
            namespace,
            refresh_interval=60,
            poll_interval=1,
            store_timeout=BUDGET,
            cold_start_wait=1,
            on_event=self.events.append,
        )

    def poll(self) -> bool:
        """Do as the SDK does; returns whether it was to fetch, and fails if it got no flags."""
        fetch = timed(self.cache.should_fetch_flag_definitions)
        if fetch:
            timed(lambda: self.cache.on_flag_definitions_received(DATA))
        given = timed(self.cache.get_flag_definitions)
        assert given is not None
        assert len(given["flags"]) == len(DATA["flags"])
        return fetch

    @property
    def losses(self) -> int:
        """How often it said that the store is lost."""
        return sum(isinstance(event, StoreLost) and event.store != "this process alone" for event in self.events)

    @property
    def recoveries(self) -> int:
        """How often it said that the store answers again."""
        return sum(isinstance(event, StoreRecovered) for event in self.events)


def took(call: Callable[[], object]) -> float:
    """How many seconds a call took."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_a_warm_cache_pays_one_timeout_and_keeps_its_flags(
    trouble: FailingServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All methods end in time with the flags held; the loss and the return of the store are one line each."""
    timed_cache = TimedCache(trouble.url, namespace)
    assert timed_cache.poll() is True
    trouble.begin()
    spent = took(lambda: [timed_cache.poll() for _ in range(10)])
    assert spent < BUDGET + SLACK
    assert timed_cache.losses == 1
    timed(lambda: timed_cache.cache.on_flag_definitions_received(DATA))
    if trouble.end is not None:
        trouble.end()
        until(
            lambda: [timed_cache.poll()] and timed_cache.losses == timed_cache.recoveries,
            20.0,
            every=0.05,
            what="the return",
        )
        assert timed_cache.losses <= 1
    timed(timed_cache.cache.shutdown)
    lines = [record.getMessage() for record in caplog.records if record.levelname != "INFO"]
    lost = [str(event) for event in timed_cache.events if isinstance(event, StoreLost)]
    assert sum(any(line.endswith(text) for text in lost) for line in lines) == timed_cache.losses, lines
    assert not any("this process alone" in line or "Traceback" in line for line in lines), lines


def test_a_cold_cache_in_trouble_fetches_for_itself(trouble: FailingServer, namespace: str) -> None:
    """A process that starts in trouble has its flags after one timeout, and shuts down in time."""
    trouble.begin()
    timed_cache = TimedCache(trouble.url, namespace)
    assert took(timed_cache.poll) < BUDGET + SLACK
    timed(timed_cache.cache.shutdown)
    assert timed_cache.losses == 1


def test_shutdown_in_fresh_trouble_ends_in_time(trouble: FailingServer, namespace: str) -> None:
    """A leader that has not noticed the trouble yet stops handing over its lease after one timeout."""
    timed_cache = TimedCache(trouble.url, namespace)
    assert timed_cache.poll() is True
    trouble.begin()
    timed(timed_cache.cache.shutdown)
    timed_cache.poll()


@pytest.mark.parametrize("name", ["frozen", "wrong password"])
def test_eight_threads_notice_as_one(name: str, make_redis: MakeRedis, stack: ExitStack, namespace: str) -> None:
    """All threads continue after one timeout, one of them probes at a time, and each transition is one event."""
    trouble = TROUBLES[name](make_redis, stack, namespace)
    timed_cache = TimedCache(trouble.url, namespace)
    timed_cache.poll()
    trouble.begin()

    def hammer(seconds: float) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            timed_cache.poll()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(hammer, [1.5] * 8))
        assert (timed_cache.losses, timed_cache.recoveries) == (1, 0)
        assert trouble.end is not None
        trouble.end()
        until(lambda: [*threads.map(hammer, [0.2] * 8)] and timed_cache.recoveries, 20.0, what="the return")
        list(threads.map(hammer, [0.5] * 8))
    assert (timed_cache.losses, timed_cache.recoveries) == (1, 1)
    timed_cache.cache.shutdown()
