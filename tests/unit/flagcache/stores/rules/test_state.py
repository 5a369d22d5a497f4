"""What is stored, and how its times are read."""

from __future__ import annotations

import pytest

from flagcache.stores.base import Meta
from flagcache.stores.rules.state import FAR, State, believable, passed, running

CLOCK = 1_700_000_000_000


def meta(as_of: int, *, epoch: int = 0) -> Meta:
    """Of definitions whose fetch was granted then."""
    return Meta("v", epoch, as_of, changed_at=as_of, confirmed_at=as_of)


@pytest.mark.parametrize(
    ("end", "under_way"),
    [(CLOCK, False), (CLOCK + 1, True), (CLOCK + 100, True), (CLOCK + 101, False), (CLOCK - 1, False), (0, False)],
)
def test_what_ends_too_far_ahead_counts_as_past(end: int, under_way: bool) -> None:
    """A clock that was stepped back stops nothing for longer than the thing's own length."""
    assert running(end, 100, CLOCK) is under_way
    assert passed(end - 100, 100, CLOCK) is not under_way


def test_a_state_that_can_be_is_left_alone() -> None:
    """The same, so that it is not written again."""
    state = State(meta=meta(CLOCK + FAR, epoch=CLOCK), epoch=CLOCK + FAR, highest=CLOCK + FAR, grant=CLOCK + FAR)
    assert believable(state, CLOCK) is state


def test_orders_that_are_no_times_of_this_clock_are_dropped() -> None:
    """Each impossible order is dropped by itself; the others count on from their own highest."""
    far = CLOCK + FAR + 1
    state = believable(State(meta=meta(CLOCK), highest=far, grant=CLOCK - 5, fence=3), CLOCK)
    assert (state.meta, state.highest, state.grant, state.fence) == (meta(CLOCK), CLOCK, CLOCK - 5, 3)
    state = believable(State(meta=meta(far), highest=7, grant=5), CLOCK)
    assert (state.meta, state.highest, state.grant) == (None, 7, 5)
    assert believable(State(grant=far, fence=far), CLOCK) == State()


def test_a_fence_lies_before_the_latest_grant() -> None:
    """It is the `as_of` of an earlier one: a forged one would keep all from publishing."""
    assert believable(State(grant=5, fence=6, highest=5), CLOCK).fence == 0
    assert believable(State(grant=5, fence=5, highest=5), CLOCK).fence == 5


def test_an_epoch_that_is_too_high_counts_as_none() -> None:
    """It counts as none for the definitions too, and is recorded, so that `clear` can replace it by a valid one."""
    far = CLOCK + FAR + 1
    state = believable(State(meta=meta(5, epoch=far), epoch=far, epoch_stamp="x", highest=5), CLOCK)
    assert (state.epoch, state.epoch_stamp, state.invalid_epoch) == (0, "", True)
    assert state.meta == meta(5)
