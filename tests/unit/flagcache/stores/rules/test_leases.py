"""Who leads, and when the leader may fetch: decisions one by one. The contract suite has the verbs on every store."""

from __future__ import annotations

import pytest

from flagcache.stores.base import REFRESHER, Ask, Meta, Order
from flagcache.stores.rules.leases import (
    GRACE,
    GRANTS_PER_INTERVAL,
    appoint,
    elect,
    extend,
    fenced,
    grant,
    hurry,
    is_exhausted,
    leads,
    leased,
)
from flagcache.stores.rules.state import Outcome, State

CLOCK = 1_700_000_000_000
EVERY = 30_000
LEASE = 60_000
ME = Ask("me", interval=EVERY, lease=LEASE, cold_lease=4_000, challenge=4 * EVERY, backoff=10 * EVERY)
STORED = Meta("v", 0, CLOCK - EVERY, changed_at=CLOCK - EVERY, confirmed_at=CLOCK - EVERY)


def led_by(owner: str, *, left: int = LEASE, **fields: object) -> State:
    """A store with definitions whose latest grant is answered."""
    at = CLOCK - EVERY
    state = State(
        meta=STORED,
        highest=at,
        grant=at,
        granted=(at, 0, 0),
        holder=owner,
        reporting=at,
        owner=owner,
        lease_until=CLOCK + left,
        lease_length=LEASE,
        led_since=at,
    )
    return state._replace(**fields)  # type: ignore[arg-type]


def test_a_free_lease_goes_to_the_asker() -> None:
    """For as long as it asks for; on an empty store for less."""
    state = elect(State(meta=STORED), ME, CLOCK)
    assert leads(state, "me", CLOCK)
    assert state.lease_until == CLOCK + LEASE
    assert elect(State(), ME, CLOCK).lease_until == CLOCK + 4_000


def test_a_lease_that_is_held_stays() -> None:
    """Until it ends; its holder renews it, and a process that may not lead takes none."""
    assert elect(led_by("other"), ME, CLOCK).owner == "other"
    assert elect(led_by("other", left=0), ME, CLOCK).owner == "me"
    assert elect(led_by("me", left=1), ME, CLOCK).lease_until == CLOCK + LEASE
    assert elect(led_by("other", left=0), ME._replace(may_lead=False), CLOCK).owner == "other"


def test_a_lease_beyond_its_own_length_is_none() -> None:
    """The clock was stepped back, or a program forged it."""
    assert not leased(led_by("other", left=LEASE + 1), CLOCK)
    assert elect(led_by("other", left=LEASE + 1), ME, CLOCK).owner == "me"


def test_a_refresher_takes_the_lease_from_a_worker() -> None:
    """But not while that one makes the first fetch; a worker takes none from a refresher."""
    refresher = ME._replace(me=f"{REFRESHER}web:1")
    assert elect(led_by("other"), refresher, CLOCK).owner == refresher.me
    first = led_by("other", meta=None, outcome=Outcome.OPEN)
    assert elect(first, refresher, CLOCK).owner == "other"
    assert elect(led_by(refresher.me), ME, CLOCK).owner == refresher.me


def test_a_fetch_that_the_leader_misses_is_taken() -> None:
    """Two seconds after it was due, by a worker that listens."""
    listener = ME._replace(listens=True)
    late = EVERY + GRACE
    assert elect(led_by("other", granted=(CLOCK - late + 1, 0, 0)), listener, CLOCK).owner == "other"
    assert elect(led_by("other", granted=(CLOCK - late, 0, 0)), listener, CLOCK).owner == "me"
    assert elect(led_by("other", granted=(CLOCK - late, 0, 0)), ME, CLOCK).owner == "other"


def test_a_leader_that_brings_nothing_to_light_is_challenged() -> None:
    """After the asker's time, once a fetch is due."""
    old = STORED._replace(confirmed_at=CLOCK - ME.challenge)
    silent = led_by("other", meta=old, led_since=CLOCK - ME.challenge)
    assert elect(silent, ME, CLOCK).owner == "me"
    assert elect(silent._replace(led_since=CLOCK - ME.challenge + 1), ME, CLOCK).owner == "other"
    assert elect(silent._replace(granted=(CLOCK - 1, 0, 0)), ME, CLOCK).owner == "other"


@pytest.mark.parametrize(("age", "granted"), [(EVERY * 9 // 10 - 1, False), (EVERY * 9 // 10, True), (EVERY, True)])
def test_a_fetch_is_granted_once_an_interval(age: int, granted: bool) -> None:
    """Less a tenth, for workers that poll a little early."""
    state, found = grant(led_by("me", granted=(CLOCK - age, 0, 0)), ME, None, CLOCK)
    assert (found is not None) is granted
    assert state.granted[0] == (CLOCK if granted else CLOCK - age)


def test_each_grant_is_later_than_all_before() -> None:
    """Than the store's highest, the asker's last one, and what the asker holds, whatever the clock says."""
    state = led_by("me", highest=CLOCK + 5)
    assert [
        found.as_of
        for ask, held in (
            (ME, None),
            (ME._replace(last_grant=CLOCK + 8), None),
            (ME, Order(0, CLOCK + 20)),
        )
        if (found := grant(state, ask, held, CLOCK)[1]) is not None
    ] == [CLOCK + 6, CLOCK + 9, CLOCK + 21]


def test_a_grant_whose_reply_was_lost_is_given_again() -> None:
    """The same grant is given again if the asker knows only of an earlier one."""
    state = led_by("me", outcome=Outcome.OPEN, grant=CLOCK - 5, granted=(CLOCK - 5, 0, 0), highest=CLOCK - 5)
    again, found = grant(state, ME._replace(last_grant=CLOCK - 9), None, CLOCK)
    assert again is state
    assert found is not None
    assert found.as_of == CLOCK - 5
    assert grant(state, ME._replace(last_grant=CLOCK - 5), None, CLOCK)[1] is None


def test_a_failed_fetch_is_followed_at_once_until_three_failed() -> None:
    """Then the fleet waits for the next interval, which doubles with each further failure."""
    state = led_by("me", outcome=Outcome.FAILED, failures=1, granted=(CLOCK - 1, 0, 0))
    assert grant(state, ME, None, CLOCK)[1] is not None
    assert grant(state._replace(failures=GRANTS_PER_INTERVAL), ME, None, CLOCK)[1] is None
    assert grant(state._replace(granted=(CLOCK - 1, CLOCK - 2, CLOCK - 3)), ME, None, CLOCK)[1] is None
    assert is_exhausted(state._replace(failures=GRANTS_PER_INTERVAL))
    doubled = state._replace(failures=GRANTS_PER_INTERVAL + 1, granted=(CLOCK - EVERY, 0, 0))
    assert grant(doubled, ME, None, CLOCK)[1] is None
    assert grant(doubled, ME, None, CLOCK + EVERY)[1] is not None


def test_only_a_later_grant_of_a_silent_holder_counts_against_a_publication() -> None:
    """One that reports its answers has stored what it found."""
    state = led_by("other", grant=90, reporting=90, fence=0)
    assert not fenced(state, 80)
    assert fenced(state._replace(reporting=0), 80)
    assert not fenced(state._replace(reporting=0), 90)
    assert not fenced(state._replace(reporting=0, outcome=Outcome.FAILED), 80)
    assert fenced(state._replace(fence=85), 80)


def test_one_follower_is_deputy() -> None:
    """The first listening follower is deputy; another one if it has not looked for two intervals; never the leader."""
    listener = ME._replace(listens=True)
    state = appoint(led_by("other"), listener, CLOCK)
    assert state.deputy == "me"
    second = listener._replace(me="second")
    assert appoint(state, second, CLOCK) is state
    assert appoint(state, second, CLOCK + 2 * (EVERY + GRACE)).deputy == "second"
    assert appoint(led_by("me"), listener, CLOCK).deputy == ""
    assert appoint(led_by("other"), ME, CLOCK).deputy == ""
    assert appoint(state, listener, CLOCK + 5) is state
    assert appoint(state, listener._replace(watches=True), CLOCK + 5).deputy_seen == CLOCK + 5


def test_the_lease_of_an_emptied_store_ends_soon() -> None:
    """Unless it ends sooner anyway, or no worker holds it; its holder renews it."""
    assert hurry(led_by("other"), CLOCK).lease_until == CLOCK + GRACE
    for state in (led_by("other", left=GRACE), led_by("other", left=0), State()):
        assert hurry(state, CLOCK) is state
    assert extend(hurry(led_by("me"), CLOCK), "me", LEASE, CLOCK).lease_until == CLOCK + LEASE
    other = led_by("other")
    assert extend(other, "me", LEASE, CLOCK) is other
