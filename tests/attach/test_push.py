from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import pytest

from flagcache.status import Role
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.attached_clients import (
    ADOPTS,
    AttachedContext,
    adopted_at,
    attached,
    only_own_fetches,
    polls_until,
    subscribed,
)
from tests.support.fleet_tasks import all_hold, leader, load, logs, never_lost_flags, poll, revision, trouble
from tests.support.real_fleet import Fleet
from tests.support.servers import MakeRedis, until

EVERY = 0.3
LONG = 30.0
"""Seconds between two polls of a client, so that none polls by itself within a test."""

Keep = Callable[[AttachedContext], AttachedContext]


def test_a_change_reaches_twenty_workers_at_once(posthog: StandInControl, store_url: str, namespace: str) -> None:
    """Twenty workers that poll every 30 s have a change of 200 flags soon after the one who fetched it."""
    posthog.serve(make_definitions(200))
    with Fleet(attached(posthog, store_url, namespace, every=EVERY, polls=LONG), 20) as fleet:
        assert fleet.call(load) == [1] * 20
        for number in (2, 3):
            posthog.serve(make_definitions(200, revision=number))
            leader(fleet).call(polls_until, number)
            all_hold(fleet, number, within=3.0)
            times = [adopted_at(member, number) for member in fleet]
            assert max(times) - min(times) < 1.5
        assert posthog.full_fetches == 3
        assert only_own_fetches(posthog.served())
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_a_lost_notice_is_made_up_for_after_the_reconnect(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """Listeners whose connections were cut while a change was published poll as soon as they are connected again."""
    server = make_redis()
    admin = server.client()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY, polls=LONG), 5) as fleet:
        fleet.call(load)
        leading = leader(fleet)
        subscribed(admin, namespace, 5)
        posthog.serve(make_definitions(5, revision=2))
        for member in fleet:
            if member is not leading:
                member.freeze()  # so that none is back before the notice is out
        admin.client_kill_filter(_type="pubsub")
        leading.call(polls_until, 2)
        for member in fleet:
            if member is not leading:
                member.thaw()
        all_hold(fleet, 2, within=5.0)
        subscribed(admin, namespace, 5)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_without_notices_a_change_comes_with_the_next_poll(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """If Redis refuses subscriptions, workers are still one fleet, and see a change at their next poll."""
    server = make_redis()
    server.client().acl_setuser("default", enabled=True, nopass=True, commands=["-subscribe"])
    with Fleet(attached(posthog, server.url, namespace, every=0.5), 4) as fleet:
        assert fleet.call(load) == [1] * 4
        for number in (2, 3):
            posthog.serve(make_definitions(5, revision=number))
            all_hold(fleet, number, within=3 * 0.5)
        assert not [line for lines in fleet.call(logs) for line in lines if "does not answer" in line.text]
        assert posthog.full_fetches == 3
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_a_flood_of_changes_ends_with_the_last(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """After many changes in a row every worker has the last one, and none went back in between."""
    with Fleet(attached(posthog, redis_url, namespace, every=0.1, polls=LONG), 5) as fleet:
        fleet.call(load)
        leading = leader(fleet)
        for number in range(2, 12):
            posthog.serve(make_definitions(5, revision=number))
            leading.call(polls_until, number)
        all_hold(fleet, 11, within=3.0)
        until(lambda: leader(fleet) is leading, what="the leader to lead still")
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_a_poll_that_puts_older_flags_back_is_mended(
    posthog: StandInControl, redis_url: str, namespace: str, here: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a poll got definitions before a push and applies them after it, that is corrected a moment later."""
    make = attached(posthog, redis_url, namespace, every=EVERY, polls=LONG)
    slow, other = here(make(0)), here(make(1))
    for context in (slow, other):
        load(context)
    release, waits = threading.Event(), threading.Event()
    adopt = cast("Callable[..., object]", getattr(slow.client, ADOPTS))

    def slowly(*args: object, **options: object) -> object:
        if threading.current_thread() is late:
            waits.set()
            release.wait(5.0)
        return adopt(*args, **options)

    monkeypatch.setattr(slow.client, ADOPTS, slowly)  # with many flags it takes long
    late = threading.Thread(target=poll, args=(slow,), name="a late poll")
    late.start()
    assert waits.wait(5.0)
    posthog.serve(make_definitions(5, revision=2))
    leading = slow if slow.cache.status().role is Role.LEADER else other
    polls_until(leading, 2)
    until(lambda: revision(slow) == 2, what="the push")
    release.set()
    late.join(5.0)
    until(lambda: [seen.revision for seen in slow.client.history][-3:] == [2, 1, 2], 1.0, what="the mending")
    assert revision(other) == 2
