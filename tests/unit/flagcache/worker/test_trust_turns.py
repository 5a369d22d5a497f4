"""A fleet with a key in which some processes cannot sign a confirmation, because their SDK fetches."""

from __future__ import annotations

import pytest

from flagcache.encoding.protection import Signed
from flagcache.events import LeadershipTaken
from flagcache.settings import Settings
from flagcache.stores.base import Scope
from flagcache.vendor import Refused
from flagcache.worker.state import ProcessState
from flagcache.worker.trust import Trust
from tests.support.in_process_attacker import AttachedProcess, RefusingUpstream, make_fleet
from tests.support.in_process_fleet import FLEET, OWN, Fleet, Process, content

EVERY, STALE_AFTER = 30.0, 150.0  # seconds


@pytest.fixture
def fleet() -> Fleet:
    """A fleet with a key."""
    fleet, _ = make_fleet(Settings(refresh_interval=EVERY, stale_after=STALE_AFTER, cold_start_wait=0.05))
    fleet.protection = Signed("0123456789abcdef" * 2)
    return fleet


def run(fleet: Fleet, steps: tuple[tuple[float, Process], ...], intervals: float) -> list[str]:
    """Let each process poll this many seconds after the one before; return which left the store aside, and when."""
    aside: list[str] = []
    began = fleet.clock()
    while fleet.clock() - began < intervals * EVERY:
        for seconds, process in steps:
            fleet.clock.advance(seconds)
            process.poll()
            if process.worker.know.view(OWN).replied_at == fleet.clock():
                aside.append(f"{process.worker.me} after {fleet.clock() - began:g} s")
    return aside


@pytest.mark.parametrize("later", [0.5, 1.0, 10.0, 29.0])
def test_a_worker_that_signs_takes_a_turn_before_what_it_holds_is_stale(fleet: Fleet, later: float) -> None:
    """However soon after the leader's fetch it polls, it leads in time: the store is never left aside, nor stale."""
    leader = fleet.process()
    leader.poll()
    attached = AttachedProcess(fleet)
    stale: list[float] = []
    for _ in range(40):
        assert run(fleet, ((later, attached), (EVERY - later, leader)), 1) == []
        stale += [] if attached.fresh else [fleet.clock()]
    assert stale == []
    assert len(attached.events(LeadershipTaken)) == 1
    assert attached.worker.know.view(FLEET).leads
    assert fleet.upstream.requests <= 42
    fleet.upstream.serves = content(2)
    run(fleet, ((later, attached), (EVERY - later, leader)), 2)
    assert [leader.flags, attached.flags] == [content(2)] * 2


def test_a_lease_that_goes_from_one_to_the_other_keeps_no_turn_from_a_worker_that_signs(fleet: Fleet) -> None:
    """Of two processes whose SDKs fetch each takes the lease that the other one gave up: none leads for long."""
    others = [fleet.process(), fleet.process()]
    others[0].poll()
    attached, aside = AttachedProcess(fleet), list[str]()
    for turn in range(80):
        aside += run(fleet, ((EVERY / 3, others[turn % 2]), (EVERY / 6, attached)), 0.5)
        if not attached.worker.know.view(FLEET).leads:
            others[turn % 2].worker.leave()
    assert aside == []
    assert attached.worker.know.view(FLEET).leads


def test_while_signed_times_come_no_turn_is_asked_for(fleet: Fleet) -> None:
    """Followers of a leader that signs never shorten the interval or the challenge of their polls."""
    workers = [AttachedProcess(fleet) for _ in range(3)]
    assert run(fleet, tuple((EVERY / 3, worker) for worker in workers), 40) == []
    assert {(ask.interval, ask.challenge) for worker in workers for ask in worker.link.asks} == {(30_000, 300_000)}


def test_while_no_fetch_succeeds_no_turn_is_asked_for(fleet: Fleet) -> None:
    """Notes that are signed show why no signed time comes; the fleet makes no more fetches than without a key."""
    workers = [AttachedProcess(fleet) for _ in range(3)]
    run(fleet, tuple((EVERY / 3, worker) for worker in workers), 2)
    upstream, before = fleet.upstream, fleet.upstream.requests
    assert isinstance(upstream, RefusingUpstream)
    upstream.refuses = Refused("status 503", Scope.EVERYBODY, 503)
    assert run(fleet, tuple((EVERY / 3, worker) for worker in workers), 40) == []
    assert {ask.interval for worker in workers for ask in worker.link.asks} == {30_000}
    assert upstream.requests - before <= 42


def test_who_polls_seldom_asks_for_no_turn_while_signed_times_come(fleet: Fleet) -> None:
    """Between two of its polls the signed time grows older than `stale_after`; the leader signs all the while."""
    leader, seldom = AttachedProcess(fleet), AttachedProcess(fleet, 10 * EVERY)
    steps = (*((EVERY, leader),) * 10, (0.0, seldom))
    assert run(fleet, steps, 100) == []
    assert {ask.interval for ask in seldom.link.asks} == {30_000}


def test_who_polls_seldom_has_its_turn_before_it_leaves_the_store_aside(fleet: Fleet) -> None:
    """It polls less often than `stale_after`, and an SDK fetches for the leader: the second such poll is its turn."""
    leader = fleet.process()
    leader.poll()
    seldom = AttachedProcess(fleet, 10 * EVERY)
    assert run(fleet, (*((EVERY, leader),) * 10, (1.0, seldom)), 60) == []
    assert len(seldom.events(LeadershipTaken)) >= 1


def test_what_was_passed_over_and_is_held_by_now_is_not_sent_again(fleet: Fleet) -> None:
    """Another thread has fetched the same version meanwhile: that the store's was confirmed later needs no payload."""
    attached = AttachedProcess(fleet)
    attached.poll()
    held = attached.worker.know.held
    assert held is not None
    trust = Trust(attached.config, ProcessState(attached.config, attached.worker.know))
    trust.note_not_adopted(FLEET, held.meta.version)
    confirmed = held.meta._replace(as_of=held.meta.as_of + 1000, confirmed_at=held.meta.confirmed_at + 1000, stamp="s")
    assert not trust.wants(FLEET, confirmed, confirmed.as_of, sent=False)
