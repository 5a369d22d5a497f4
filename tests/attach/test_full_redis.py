"""Redis reaches its memory limit under a running fleet: it answers reads, and refuses most writes."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
import redis

from flagcache_posthog.testing import RemoteStandIn, StandInControl, make_definitions
from tests.support.attached_clients import attached
from tests.support.fleet_tasks import all_hold, asks, contexts, load, logs, never_lost_flags, status, trouble
from tests.support.real_fleet import Fleet, Member
from tests.support.servers import SERVER_NAMES, MakeRedis, until

EVERY = 0.4
SOON = 20 * EVERY


def said(member: Member, words: str) -> list[int]:
    """Return the levels of the lines with these words in a member's log."""
    return [line.level for line in member.call(logs) if line.logger == "flagcache" and words in line.text]


def troubles(fleet: Fleet) -> set[str]:
    """Return the troubles of the members."""
    return {each.trouble for each in fleet.call(status)}


def limit(admin: redis.Redis, memory: int) -> None:
    """Let the server use this many bytes; 0: no limit."""
    admin.config_set("maxmemory", memory)


@pytest.mark.parametrize("name", SERVER_NAMES)
@pytest.mark.parametrize("tied", [attached, contexts], ids=["attached", "not attached"])
def test_each_worker_says_so_once_and_all_go_on(
    posthog: RemoteStandIn, make_redis: MakeRedis, namespace: str, tied: type, name: str
) -> None:
    """Even if nothing changes, each worker logs an ERROR with the remedy; this machine's file takes over."""
    server = make_redis(name)
    with Fleet(tied(posthog, server.url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        limit(server.client(), 1)
        until(lambda: troubles(fleet) == {"store_full"}, SOON, what="all to notice")
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=SOON)
        [new] = fleet.join(1)
        assert new.call(load) == 2
        until(lambda: troubles(fleet) == {"store_full"}, SOON, what="the new one to notice")
        posthog.wait_for_requests(posthog.requests + 5, timeout=SOON)
        assert troubles(fleet) == {"store_full"}
        for member in fleet:
            assert said(member, "is full") == [logging.ERROR]
            assert said(member, "free memory there, or raise its limit") == [logging.ERROR]
            assert not said(member, "answers again")
        limit(server.client(), 0)
        until(lambda: troubles(fleet) == {""}, SOON, what="all to be well")
        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=SOON)
        assert all(each.store_answers for each in fleet.call(status))
        for member in fleet:
            assert said(member, "is full") == [logging.ERROR]
            assert said(member, "answers again after") == [logging.ERROR]
            assert never_lost_flags(member)
            assert not trouble(member)


def test_one_fetch_serves_the_machine_meanwhile(posthog: RemoteStandIn, make_redis: MakeRedis, namespace: str) -> None:
    """The processes of this machine together ask PostHog once per interval."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        limit(server.client(), 1)
        until(lambda: troubles(fleet) == {"store_full"}, SOON, what="all to notice")
        posthog.wait_for_requests(posthog.requests + 2, timeout=SOON)
        before = len(asks(posthog))
        posthog.wait_for_requests(posthog.requests + 6, timeout=SOON)
        served = asks(posthog, after=before)
        apart = [later.arrived_at - earlier.arrived_at for earlier, later in pairwise(served)]
        assert sum(apart) / len(apart) > 0.7 * EVERY


def test_a_new_worker_on_an_empty_and_full_redis_starts(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """Redis gives no lease, so it fetches with this machine's file, and logs that Redis is full."""
    server = make_redis()
    limit(server.client(), 1)
    with Fleet(attached(posthog, server.url, namespace, every=EVERY), 2) as fleet:
        assert fleet.call(load) == [1, 1]
        assert troubles(fleet) == {"store_full"}
        assert all(said(member, "is full") == [logging.ERROR] for member in fleet)
