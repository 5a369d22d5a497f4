"""However often a store grants a fetch, a process makes at most four in any refresh interval."""

from __future__ import annotations

import pytest

from flagcache.events import FetchFailed
from flagcache.worker.fetch_limit import MAX_FETCHES, FetchLimit
from tests.support.in_process_attacker import grant_again
from tests.support.in_process_fleet import Clock, Fleet, content

EVERY = 30.0


def test_any_window_of_an_interval_has_four() -> None:
    """Not only intervals that begin with a fetch: the fifth waits until the first is an interval old."""
    clock = Clock()
    limit, began = FetchLimit(EVERY, clock), list[float]()
    for _ in range(1000):
        if limit.take():
            began.append(clock.now)
        clock.advance(0.7)
    windows = [sum(1 for other in began if at <= other < at + EVERY) for at in began]
    assert max(windows) == MAX_FETCHES
    assert len(began) >= 700 / EVERY * MAX_FETCHES - MAX_FETCHES


def test_a_store_that_grants_at_each_poll_costs_four_fetches_an_interval(fleet: Fleet) -> None:
    """In protocol mode `should_fetch` answers False from the fifth grant on, and True again when there is room."""
    process = fleet.process()
    for interval in range(1, 4):
        for _ in range(198):
            grant_again(fleet)
            process.poll()
            fleet.clock.advance(EVERY / 200)
        assert fleet.upstream.requests <= MAX_FETCHES * interval + 1
        fleet.clock.advance(EVERY / 100)
    assert fleet.upstream.requests >= MAX_FETCHES * 2
    assert process.flags == content(1)


def test_a_grant_beyond_the_limit_is_given_back(fleet: Fleet) -> None:
    """It is another worker's at once, without a failure, and the process asks for none until it may fetch again."""
    busy, other = fleet.process(), fleet.process()
    busy.poll()
    other.poll()
    for _ in range(MAX_FETCHES):
        grant_again(fleet)
        busy.poll()
    assert fleet.upstream.requests == MAX_FETCHES
    fleet.upstream.serves = content(2)
    other.poll()
    assert (fleet.upstream.requests, other.flags) == (MAX_FETCHES + 1, content(2))
    fleet.clock.advance(1)
    busy.poll()
    assert busy.flags == content(2)
    assert not busy.events(FetchFailed)
    assert busy.link.calls.count("fail") == 1
    for _ in range(10):
        grant_again(fleet)
        busy.poll()
    assert busy.link.calls.count("fail") == 1
    assert not busy.link.asks[-1].may_lead


def test_fetches_that_no_store_granted_count_too(fleet: Fleet) -> None:
    """A client that loads again without flags is always sent to fetch; afterwards no grant is used for an interval."""
    fleet.occupy()
    worker = fleet.process().worker
    for _ in range(2 * MAX_FETCHES):
        assert not worker.should_fetch()
        assert worker.definitions(loads_again=lambda: True) is None
    grant_again(fleet)
    assert not worker.should_fetch()
    fleet.clock.advance(EVERY)
    grant_again(fleet)
    assert worker.should_fetch()


@pytest.mark.parametrize("down", [False, True])
def test_an_honest_fleet_is_not_limited(fleet: Fleet, down: bool) -> None:
    """Whether its fetches succeed or fail, it gives back no grant of a store that no attacker writes to."""
    process = fleet.process()
    fleet.upstream.down = down
    for _ in range(600):
        granted = process.poll()
        if granted and down and process.worker.know.held is None:
            process.flags = None
        fleet.clock.advance(EVERY / 20)
    given_back = [event for event in process.events(FetchFailed) if "too often" in event.reason]
    assert not given_back
    assert process.worker.know.stay_out_until <= fleet.clock.now + EVERY
