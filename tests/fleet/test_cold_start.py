from __future__ import annotations

import threading
import time

import pytest

from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.fleet_tasks import (
    all_hold,
    asker,
    asks,
    contexts,
    evaluated,
    history,
    load,
    logs,
    revisions,
    shutdown,
)
from tests.support.grant_log import log_grants
from tests.support.real_fleet import Fleet, MemberContext
from tests.support.redis_links import calls_since
from tests.support.request_pace import let_pass
from tests.support.servers import MakeRedis, RedisServer


def test_twenty_workers_cause_one_request(posthog: StandInControl, store_url: str, namespace: str) -> None:
    """20 workers that start at one instant on an empty store, with a slow PostHog, make one request; all have flags."""
    posthog.set_delay(0.5)
    with Fleet(contexts(posthog, store_url, namespace, every=30), 20) as fleet:
        began = time.monotonic()
        held = fleet.call(load)
        took = time.monotonic() - began
        assert held == [1] * 20
        assert fleet.call(evaluated) == ["r1"] * 20
        assert posthog.requests == 1
    assert 0.5 <= took < 4.0


def test_a_leader_that_dies_in_its_first_fetch_is_followed_by_one(
    posthog: StandInControl, store_url: str, namespace: str
) -> None:
    """If a leader is killed during the first fetch, exactly one other worker fetches, within the wait of all."""
    posthog.hold(times=1)
    with Fleet(contexts(posthog, store_url, namespace, every=30, cold_start_wait=5), 6) as fleet:
        calls = {member.index: call for member, call in zip(fleet, fleet.begin(load), strict=True)}
        posthog.wait_for_held(1, timeout=5)
        killed = asker(fleet, asks(posthog)[0])
        killed.kill()
        assert [call.result() for index, call in calls.items() if index != killed.index] == [1] * 5
        assert posthog.requests == 2


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "without a listener"])
def test_one_passing_failure_costs_no_worker_its_flags(
    posthog: StandInControl, store_url: str, namespace: str, attached: bool
) -> None:
    """After a failed first request the second one comes long before the next interval, and all wait for it."""
    posthog.fail(500, times=1)
    with Fleet(contexts(posthog, store_url, namespace, every=30, auto_attach=attached), 3) as fleet:
        assert fleet.call(load) == [1] * 3
        assert posthog.requests == 2


def test_a_failing_posthog_sees_no_herd(posthog: StandInControl, redis_server: RedisServer, namespace: str) -> None:
    """While PostHog fails, 8 cold workers ask 3 times an interval, and each soon starts without flags."""
    posthog.fail(500)
    make = contexts(posthog, redis_server.url, namespace, every=0.5, cold_start_wait=1.5)
    with log_grants(redis_server.url, namespace) as grants, Fleet(make, 8) as fleet:
        began = time.monotonic()
        assert fleet.call(load) == [None] * 8
        assert time.monotonic() - began < 3.0
        assert fleet.call(evaluated) == [None] * 8
        assert {each[-1].flags for each in fleet.call(history)} == {0}  # empty, not missing: none asks again at once
        assert grants.at_most(3, asks(posthog), 0.5)
        words = "all flags are off until some arrive"
        expired = [[line for line in each if words in line.text] for each in fleet.call(logs)]
        assert [len(lines) for lines in expired] == [1] * 8

        posthog.recover()
        all_hold(fleet, 1, within=5.0)
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=5.0)


def _use_from_threads(context: MemberContext, number: int) -> list[str | None]:
    """Evaluate a flag on several threads at one moment, with a client that was never loaded."""
    gate = threading.Barrier(number)
    results: list[str | None] = []

    def use() -> None:
        gate.wait()
        results.append(evaluated(context))

    threads = [threading.Thread(target=use) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_threads_of_a_cold_client_share_one_request_and_one_poll(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """8 threads on a cold client make one request, all get the flags, and the store is polled as by one thread."""
    posthog.set_delay(0.5)
    server = make_redis()
    admin = server.client()
    with Fleet(contexts(posthog, server.url, namespace, every=30), 1) as fleet:
        calls_since(admin)
        assert fleet.members[0].call(_use_from_threads, 8) == ["r1"] * 8
        assert posthog.requests == 1
        connections = int(admin.info("stats")["total_connections_received"])
        calls = calls_since(admin)
        # One look at the store of each thread at most, and those of one wait of half a second, which grow apart.
        assert calls.get("evalsha", 0) + calls.get("eval", 0) <= 8 + 15
        assert connections <= 2  # polls never overlap, or more would have been opened; a publication may meet one


def test_a_first_load_on_old_definitions_looks_rarely(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """A worker that waits for another's slow fetch polls with growing pauses, and gets the fetch's result."""
    server = make_redis()
    admin, make = server.client(), contexts(posthog, server.url, namespace, every=0.5, auto_attach=True)
    with Fleet(make, 1) as friday:
        friday.call(load)
        friday.call(shutdown)
    posthog.serve(make_definitions(5, revision=2))
    let_pass(1.0)
    posthog.set_delay(2.0)
    with Fleet(make, 3) as monday:
        calls_since(admin)
        began = time.monotonic()
        assert monday.call(load) == [2] * 3
        assert time.monotonic() - began < 8.0  # long before the end of `cold_start_wait`
        assert calls_since(admin).get("evalsha", 0) < 300


@pytest.mark.parametrize("late", [1, 3])
def test_late_comers_ask_nobody(posthog: StandInControl, redis_server: RedisServer, namespace: str, late: int) -> None:
    """Workers that join a warm fleet have its flags at once, without a request."""
    with Fleet(contexts(posthog, redis_server.url, namespace, every=30), 2) as fleet:
        fleet.call(load)
        came = fleet.join(late)
        assert [member.call(load) for member in came] == [1] * late
        assert revisions(fleet) == {1}
        assert posthog.requests == 1
