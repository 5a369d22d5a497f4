from __future__ import annotations

import math

import pytest

from flagcache.core import knowledge
from flagcache.core.knowledge import Held, Knowledge, StoreView
from flagcache.core.notes import Note
from flagcache.core.schedule import (
    GRACE,
    HEARTBEAT,
    RENEWALS,
    ClientActivity,
    Schedule,
    backoff,
    next_duty,
    pause_after,
)
from flagcache.settings import Settings
from flagcache.stores.base import Meta, Scope
from flagcache.stores.rules import leases
from flagcache.vendor import Refused

NOW = 1000.0
POLLS_EVERY = 10.0
LEASE = 15.0
INTERVAL = 8.0

KNOW = Knowledge()
ACTIVITY = ClientActivity(polls_every=POLLS_EVERY, last_poll=NOW - 2, able=True, longest_fetch=5.0, interval=INTERVAL)
LEADER = StoreView(replied_at=NOW - 2, leads=True, renewed=NOW - 2, lease_ends=NOW - 2 + LEASE)
FOLLOWER = StoreView(replied_at=NOW - 2, lease_ends=NOW + 5)


def at(
    view: StoreView, activity: ClientActivity = ACTIVITY, know: Knowledge = KNOW, now: float = NOW
) -> tuple[float, float]:
    """When to renew and when to contend."""
    due = next_duty(know, view, activity, now)
    return due.renew_at, due.contend_at


# --- the leader ------------------------------------------------------------------------------------------------------


def test_a_leader_renews_several_times_in_a_lease() -> None:
    """The next renewal is a third of the lease after the last one, and nothing is contended for."""
    assert at(LEADER) == (NOW - 2 + LEASE / RENEWALS, math.inf)


def test_a_short_lease_is_renewed_sooner() -> None:
    """The lease in force counts, and not the one that is asked for: on an empty store it is short."""
    assert at(LEADER._replace(lease_ends=NOW - 2 + 3.0))[0] == NOW - 2 + 1.0


@pytest.mark.parametrize(
    "activity",
    [ACTIVITY._replace(able=False), ACTIVITY._replace(last_poll=NOW - 2 * POLLS_EVERY - 5.0 - 0.1)],
    ids=["its poller is dead", "its poller is stuck"],
)
def test_a_leader_that_does_not_poll_lets_its_lease_run_out(activity: ClientActivity) -> None:
    """Nothing is renewed for clients that do not poll; the lease's end is noticed, and the lease not taken again."""
    due = next_duty(KNOW, LEADER, activity, NOW)
    assert due == Schedule(over_at=LEADER.lease_ends)
    assert due.soonest == LEADER.lease_ends
    assert at(LEADER._replace(leads=False), activity) == (math.inf, math.inf)


def test_a_poll_may_take_two_intervals_and_a_fetch() -> None:
    """A poller is trusted for two poll intervals and the longest fetch since it last asked."""
    activity = ACTIVITY._replace(last_poll=NOW)
    assert activity.healthy(NOW + 2 * POLLS_EVERY + 5.0)
    assert not activity.healthy(NOW + 2 * POLLS_EVERY + 5.1)


def test_a_leader_fetches_when_the_fleet_is_due() -> None:
    """A refresh interval after the latest grant, whatever its own poll interval; a note is waited for."""
    assert at(LEADER, know=Knowledge(granted=NOW - 1))[1] == NOW - 1 + INTERVAL
    assert at(LEADER, know=Knowledge(granted=NOW - 1, backoff=Note(retry_at=NOW + 20)))[1] == NOW + 20
    assert at(LEADER, ACTIVITY._replace(polls_every=300.0), Knowledge(granted=NOW - 1))[1] == NOW - 1 + INTERVAL


def test_a_leader_that_is_refused_does_not_ask_at_once_again() -> None:
    """Two tries that changed nothing are a quarter of an interval apart."""
    overdue = Knowledge(granted=NOW - 2 * INTERVAL)
    assert at(LEADER, know=overdue)[1] == NOW - INTERVAL
    assert at(LEADER, ACTIVITY._replace(contended_at=NOW), overdue)[1] == NOW + INTERVAL / 4


def test_a_leader_that_fetches_keeps_its_lease_alive() -> None:
    """While a fetch is under way nothing is contended for, and the lease is renewed each second at least."""
    fetching = ACTIVITY._replace(fetching=True)
    assert at(LEADER, fetching, Knowledge(granted=NOW - 2 * INTERVAL)) == (LEADER.renewed + HEARTBEAT, math.inf)
    assert at(LEADER._replace(lease_ends=LEADER.renewed + 0.6), fetching)[0] == pytest.approx(LEADER.renewed + 0.2)
    assert GRACE >= 2 * HEARTBEAT
    assert leases.GRACE == GRACE * 1000


# --- a follower ------------------------------------------------------------------------------------------------------


def test_a_follower_contends_when_the_lease_ends_before_its_next_poll() -> None:
    """At the end of the lease, a little later than others, and again a second later if that came to nothing."""
    activity = ACTIVITY._replace(offset=0.25)
    assert at(FOLLOWER, activity) == (math.inf, FOLLOWER.lease_ends + 0.25)
    assert at(FOLLOWER, activity._replace(contended_at=FOLLOWER.lease_ends + 0.25))[1] == FOLLOWER.lease_ends + 1.25
    assert at(FOLLOWER._replace(lease_ends=NOW + 6), activity._replace(contended_at=NOW + 1))[1] == NOW + 6.25


def test_the_deputy_looks_when_a_fetch_is_overdue() -> None:
    """Two seconds after the fetch was due, and later if a note or a back-off of its own lasts longer; others do not."""
    granted = Knowledge(granted=NOW - 1)
    deputy = FOLLOWER._replace(deputy=True, lease_ends=NOW + 1000)
    overdue_at = NOW - 1 + INTERVAL + GRACE
    assert at(deputy._replace(deputy=False), know=granted) == (math.inf, math.inf)
    assert at(deputy, know=granted) == (math.inf, overdue_at)
    assert at(deputy, ACTIVITY._replace(offset=0.1), granted)[1] == overdue_at + 0.1
    assert at(deputy, know=granted._replace(backoff=Note(retry_at=NOW + 30)))[1] == NOW + 30 + GRACE
    assert at(deputy, know=granted._replace(stay_out_until=NOW + 30))[1] == NOW + 30
    assert at(deputy, ACTIVITY._replace(contended_at=overdue_at), granted)[1] == overdue_at + GRACE
    assert at(deputy, ACTIVITY._replace(able=False), granted)[1] == math.inf
    assert at(deputy) == (math.inf, math.inf)  # no grant is known


def test_a_follower_leaves_a_later_end_to_its_next_poll() -> None:
    """A lease that outlives the next poll needs no contention: that is every poll of a fleet in order."""
    assert at(FOLLOWER._replace(lease_ends=ACTIVITY.last_poll + POLLS_EVERY)) == (math.inf, math.inf)


def test_a_follower_that_failed_stays_out_until_its_backoff_ends() -> None:
    """Whose fetches failed contends neither before its back-off ends nor before the lease does."""
    assert at(FOLLOWER, know=Knowledge(stay_out_until=NOW + 6))[1] == NOW + 6
    assert at(FOLLOWER, know=Knowledge(stay_out_until=NOW + 4))[1] == FOLLOWER.lease_ends
    assert at(FOLLOWER, know=Knowledge(stay_out_until=NOW + 60))[1] == math.inf


def unsigned(confirmed: float, stamp: str = "") -> tuple[StoreView, Knowledge]:
    """A follower with a key, whose last reply had unsigned times, confirmed this many seconds before."""
    clock = 1_000_000
    meta = Meta("v1", 0, clock, clock, clock - round(confirmed * 1000))
    view = FOLLOWER._replace(clock=clock, stored=meta._replace(stamp=stamp), lease_ends=NOW + 1000)
    return view, Knowledge(held=Held(meta, {}, "store", 0.0), signs=True)


def test_a_follower_with_a_key_takes_a_turn_from_a_leader_without_one() -> None:
    """Half an interval after the latest confirmation, whenever its own polls are; and half an interval later again."""
    for confirmed, then in ((0.0, INTERVAL / 2), (1.0, INTERVAL / 2 - 1), (100.0, 0.0), (-5.0, INTERVAL / 2)):
        view, know = unsigned(confirmed)
        assert at(view, know=know) == (math.inf, view.replied_at + then)
        assert at(view, ACTIVITY._replace(offset=0.1), know)[1] == pytest.approx(view.replied_at + then + 0.1)
        assert at(view, ACTIVITY._replace(contended_at=NOW), know)[1] == NOW + INTERVAL / 2
        assert at(view, know=know._replace(stay_out_until=NOW + 60))[1] == NOW + 60
        assert at(view, know=know._replace(signs=False))[1] == math.inf
        assert at(view, know=know._replace(held=None))[1] == math.inf
    view, know = unsigned(100.0, stamp="stamp")
    assert at(view, know=know) == (math.inf, math.inf)


@pytest.mark.parametrize(
    ("view", "activity"),
    [
        (FOLLOWER, ACTIVITY._replace(able=False)),
        (FOLLOWER, ACTIVITY._replace(last_poll=NOW - 30)),
        (FOLLOWER._replace(foreign=True), ACTIVITY),
        (StoreView(), ACTIVITY),
        (FOLLOWER._replace(lease_ends=FOLLOWER.replied_at), ACTIVITY),
    ],
    ids=["no poller", "a stuck poller", "another project's store", "never heard", "free when last heard"],
)
def test_who_could_not_lead_does_not_contend(view: StoreView, activity: ClientActivity) -> None:
    """Neither a process that could not fetch contends, nor one that has just seen that it could not have the lease."""
    assert next_duty(KNOW, view, activity, NOW) == Schedule()


def test_who_failed_lets_others_take_a_free_lease_first() -> None:
    """After a failure of its own a worker takes no lease that fell free a moment ago; any other worker does."""
    base = knowledge.template("me", Settings(), LEASE)
    others = StoreView(replied_at=NOW - 1, lease_ends=NOW + 5)
    over = StoreView(replied_at=NOW - 1, lease_ends=NOW - 1)
    own = StoreView(replied_at=NOW - 1, leads=True, lease_ends=NOW + 5)

    def may_lead(view: StoreView, stay_out_until: float) -> bool:
        know = Knowledge(stay_out_until=stay_out_until).with_view("store", view)
        return knowledge.build_poll(base, know, "store", NOW).may_lead

    assert [may_lead(each, 0.0) for each in (others, over, own)] == [True, True, True]
    assert [may_lead(each, NOW - 1) for each in (others, over, own)] == [False, True, True]
    assert [may_lead(each, NOW + 1) for each in (others, over, own)] == [False, False, False]
    assert may_lead(others, NOW - Settings().challenge_after)  # it may challenge a leader that is silent


def test_nothing_is_due_for_ever_where_nothing_is_due() -> None:
    """Without a duty the listener waits, and only checks that its worker is alive."""
    assert Schedule().soonest == math.inf
    assert Schedule(renew_at=3.0, contend_at=2.0, over_at=4.0).soonest == 2.0


# --- the pause after a failed fetch ----------------------------------------------------------------------------------

SETTINGS = Settings(refresh_interval=60.0)
HOLDS = Knowledge(held=Held(Meta("v", 0, 1, 1, 1), {}, "store", NOW))


@pytest.mark.parametrize("status", [0, 503])
def test_a_process_without_definitions_tries_again_soon_if_the_failure_may_pass(status: int) -> None:
    """A network error has no status."""
    refused = Refused("", Scope.EVERYBODY, status)
    assert pause_after(KNOW, refused, SETTINGS, 1.0) == backoff(0, SETTINGS, 1.0, cold=True) == 0.5
    assert pause_after(HOLDS, refused, SETTINGS, 1.0) == backoff(0, SETTINGS, 1.0) == 15.0


def test_a_process_without_definitions_does_not_hurry_after_a_refusal() -> None:
    """The next attempt would be refused too."""
    assert pause_after(KNOW, Refused("", Scope.EVERYBODY, 402), SETTINGS, 1.0) == 15.0


def test_each_failure_doubles_the_pause() -> None:
    """The failures before this one count."""
    assert pause_after(HOLDS._replace(failures=2), Refused("", Scope.EVERYBODY, 503), SETTINGS, 1.0) == 60.0


def test_retry_after_prolongs_the_pause_up_to_a_limit() -> None:
    """It never shortens it, and a failure of this process alone has none."""
    after = [
        pause_after(HOLDS, Refused("", scope, 429, retry_after=seconds), SETTINGS, 1.0)
        for scope, seconds in (
            (Scope.EVERYBODY, 40.0),
            (Scope.EVERYBODY, 1.0),
            (Scope.EVERYBODY, 1e6),
            (Scope.MINE, 40.0),
        )
    ]
    assert after == [40.0, 15.0, 300.0, 15.0]
