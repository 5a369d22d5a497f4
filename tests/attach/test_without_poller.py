"""A client without a poller (`enable_local_evaluation=False`): it evaluates with what its own loads bring."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

import pytest

from flagcache import AsyncRedisFlagDefinitionCache
from flagcache.worker import listener
from flagcache_posthog import FlagDefinitionCache, from_url
from flagcache_posthog.testing import Refuse, StandInControl, make_definitions
from tests.support.attached_clients import attached, holder
from tests.support.fleet_tasks import all_hold, contexts, evaluated, key_of, leader, load, poll, revision, status
from tests.support.real_fleet import Fleet, MemberContext, RecordingPosthog
from tests.support.servers import MakeRedis, RedisServer, until

T = TypeVar("T")

EVERY = 0.4

LIMIT = 0.1
"""The largest share of a processor while nothing happens."""

HOWS = pytest.mark.parametrize("how", ["by itself", "attach", "not attached"])


def never_polling(
    posthog: StandInControl, url: str, namespace: str, how: str = "by itself"
) -> Callable[[int], MemberContext]:
    """Return what makes a member's context whose client has no poller."""
    host = posthog.url

    def make(index: int) -> MemberContext:
        cache = from_url(url, namespace, refresh_interval=EVERY, store_timeout=0.3, auto_attach=how != "not attached")
        context = MemberContext(without_poller(host, key_of(100 + index), cache), cache)
        if how == "attach":
            cache.attach(context.client)
        return context

    return make


def without_poller(host: str, secret_key: str, cache: FlagDefinitionCache | None) -> RecordingPosthog:
    """A client without a poller, whose poll interval is the SDK's own."""
    return RecordingPosthog(
        "phc_test",
        secret_key=secret_key,
        host=host,
        enable_local_evaluation=False,
        flag_definition_cache_provider=cache,
        flush_at=1,  # older SDKs sit out the flush interval of 5 seconds in `shutdown`
    )


def work(_context: MemberContext, seconds: float) -> float:
    """Do nothing for this many seconds; return the share of a processor that the process used."""
    began = time.process_time()
    threading.Event().wait(seconds)
    return (time.process_time() - began) / seconds


def load_again(context: MemberContext) -> bool:
    """Load, as an application without a poller does from time to time; return whether the store answered."""
    load(context)
    return context.cache.status().store_answers


# --- a store that is frozen -------------------------------------------------------------------------------------------


@HOWS
def test_a_frozen_store_costs_nothing_and_is_asked_again(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread is busy with a frozen store, before and after a load noticed it; later loads poll it again."""
    monkeypatch.setattr(listener, "_LONGEST_SLEEP", 0.1)  # a thread that waited for longer would be busy only later
    server = make_redis()
    with Fleet(never_polling(posthog, server.url, namespace, how), 1) as fleet:
        [member] = fleet
        assert member.call(load) == 1
        server.freeze()
        assert member.call(work, 1.0) < LIMIT
        member.call(load)
        assert not member.call(status).store_answers
        assert member.call(work, 2.0) < LIMIT
        server.thaw()
        until(lambda: member.call(load_again), 10.0, every=0.1, what="the store to be asked again")
        posthog.serve(make_definitions(5, revision=2))
        until(lambda: member.call(load) == 2, 10.0, every=0.1, what="the change")


# --- a PostHog that fails ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Refuse(503), Refuse(503, retry_after=60), Refuse(429, retry_after=60)], ids=repr)
@pytest.mark.parametrize("wait", [None, 0], ids=["waits", "does not wait"])
@HOWS
def test_a_failure_at_the_first_load_is_made_up_for(
    posthog: StandInControl, redis_server: RedisServer, namespace: str, how: str, fault: Refuse, wait: float | None
) -> None:
    """As with the SDK alone, a client without flags loads when it evaluates, and has them once PostHog answers."""
    cache = from_url(redis_server.url, namespace, cold_start_wait=wait, auto_attach=how != "not attached")
    plain, ours = without_poller(posthog.url, "phs_plain", None), without_poller(posthog.url, "phs_ours", cache)
    if how == "attach":
        cache.attach(ours)
    clients = [MemberContext(plain, cast("FlagDefinitionCache", None)), MemberContext(ours, cache)]
    try:
        for key in ("phs_plain", "phs_ours"):
            posthog.fail(fault, secret_key=key)
        assert [load(context) for context in clients] == [None, None]
        assert [evaluated(context) for context in clients] == [None, None]
        posthog.recover()
        assert [evaluated(context) for context in clients] == ["r1", "r1"]
    finally:
        for context in clients:
            context.client.shutdown()


def on_a_loop(task: Callable[[MemberContext], T], context: MemberContext) -> T:
    """Make a call on a thread that runs an event loop, as an async route does."""

    async def run() -> T:
        return task(context)

    coroutine: Coroutine[Any, Any, T] = run()
    return asyncio.run(coroutine)


@HOWS
def test_a_failure_is_made_up_for_on_an_event_loop_too(
    posthog: StandInControl, redis_server: RedisServer, namespace: str, how: str
) -> None:
    """On an event loop the asynchronous cache works on another thread, and knows its client."""
    cache = AsyncRedisFlagDefinitionCache(redis_server.url, namespace, auto_attach=how != "not attached")
    ours = without_poller(posthog.url, "phs_ours", cast("FlagDefinitionCache", cache))
    context = MemberContext(ours, cast("FlagDefinitionCache", cache))
    if how == "attach":
        cache.attach(ours)
    try:
        posthog.fail(Refuse(503, retry_after=60))
        assert on_a_loop(load, context) is None
        assert on_a_loop(evaluated, context) is None
        posthog.recover()
        assert on_a_loop(evaluated, context) == "r1"
    finally:
        ours.shutdown()


def test_one_failure_is_over_with_the_first_load(
    posthog: StandInControl, redis_server: RedisServer, namespace: str
) -> None:
    """A failed first fetch is repeated within `cold_start_wait`."""
    posthog.fail(503, times=1)
    context = never_polling(posthog, redis_server.url, namespace)(0)
    assert load(context) == 1
    context.client.shutdown()


# --- the lease --------------------------------------------------------------------------------------------------------


@HOWS
def test_it_keeps_no_lease(posthog: StandInControl, redis_server: RedisServer, namespace: str, how: str) -> None:
    """It gives up the lease with which it fetched, and one that it found free when nothing was due."""
    admin = redis_server.client()
    with Fleet(never_polling(posthog, redis_server.url, namespace, how), 2) as fleet:
        for member in (*fleet, *fleet):
            assert member.call(load) == 1
            until(lambda: holder(admin, namespace) == 0, 5.0, what="the lease, of a minute, to be given up")


@pytest.mark.parametrize("tied", [attached, contexts], ids=["attached", "not attached"])
@HOWS
def test_a_fleet_beside_it_leads(
    posthog: StandInControl,
    redis_server: RedisServer,
    namespace: str,
    how: str,
    tied: Callable[..., Callable[[int], MemberContext]],
) -> None:
    """The client without a poller loads first; polling clients then lead and fetch, and its loads bring the result."""
    with (
        Fleet(never_polling(posthog, redis_server.url, namespace, how), 1) as lone,
        Fleet(tied(posthog, redis_server.url, namespace, every=EVERY, challenge_after=60.0), 2) as fleet,
    ):
        [member] = lone
        assert member.call(load) == 1
        fleet.call(load)
        first = leader(fleet)
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=20 * EVERY)
        assert member.call(load) == 2
        assert leader(fleet) is first


def test_a_client_that_polls_keeps_the_lease_for_both(
    posthog: StandInControl, redis_server: RedisServer, namespace: str
) -> None:
    """If one of two clients on a cache polls, loads of the other one give up no lease."""
    context = attached(posthog, redis_server.url, namespace, every=EVERY)(0)
    other = without_poller(posthog.url, "phs_other", context.cache)
    try:
        load(context)
        here = holder(redis_server.client(), namespace)
        assert here
        assert load(MemberContext(other, context.cache)) == 1
        poll(context)
        assert holder(redis_server.client(), namespace) == here
        assert revision(context) == 1
    finally:
        other.shutdown()
        context.client.shutdown()
