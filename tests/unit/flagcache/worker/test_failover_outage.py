"""The store is down: no worker loses flags or hangs, PostHog gets few requests, and then all is as before."""

from __future__ import annotations

import copy
import logging

import pytest

from flagcache.events import DefinitionsRepaired, StoreLost, StoreRecovered
from flagcache.stores.memory import MemoryStore
from tests.support.in_process_fleet import FLEET, OWN, Fleet, Process, content


def poll_for(fleet: Fleet, processes: list[Process], seconds: float) -> None:
    """Let all poll every five seconds."""
    for _ in range(round(seconds / 5)):
        for process in processes:
            process.poll()
        fleet.clock.advance(5)


def test_a_process_goes_on_with_what_it_holds(fleet: Fleet) -> None:
    """Without the store and the vendor, definitions stay for as long as it lasts."""
    process = fleet.process()
    process.poll()
    process.link.cut = True
    fleet.upstream.down = True
    poll_for(fleet, [process], 3600)
    assert process.flags == content(1)
    assert process.worker.fleet_status.store_answers is False


def test_each_process_fetches_for_itself_at_a_slower_pace(fleet: Fleet) -> None:
    """Its own memory coordinates it then: a request in two intervals at most, and changes still arrive."""
    process = fleet.process()
    process.poll()
    process.link.cut = True
    fleet.upstream.serves = content(2)
    poll_for(fleet, [process], 20 * fleet.settings.refresh_interval)
    assert process.flags == content(2)
    assert 5 <= fleet.upstream.requests <= 1 + 20 / (0.9 * 2) + 1
    assert process.worker.know.view(OWN).leads


def test_a_store_in_trouble_is_not_asked_at_every_poll(fleet: Fleet) -> None:
    """After a failure it is left alone for a moment, then probed within a poll interval."""
    process = fleet.process()
    process.poll()
    process.link.cut = True
    process.poll()
    calls = len(process.link.calls)
    process.poll()
    assert len(process.link.calls) == calls
    fleet.next_interval()
    process.poll()
    assert len(process.link.calls) == calls + 1


def test_the_trouble_is_told_once_and_so_is_its_end(fleet: Fleet) -> None:
    """A lasting outage is one event, not one a poll."""
    process = fleet.process()
    process.poll()
    process.link.cut = True
    poll_for(fleet, [process], 600)
    assert [event.store for event in process.events(StoreLost)] == [FLEET]
    assert not process.events(StoreRecovered)
    process.link.cut = False
    poll_for(fleet, [process], 60)
    assert [event.store for event in process.events(StoreRecovered)] == [FLEET]
    assert len(process.events(StoreLost)) == 1
    assert process.worker.fleet_status.store_answers is True


@pytest.mark.parametrize("seconds", [10, 100, 1000])
def test_afterwards_the_fleet_is_one_again(fleet: Fleet, seconds: float) -> None:
    """The process that fetched last during the outage shares that, and one request per interval is enough again."""
    processes = [fleet.process() for _ in range(3)]
    poll_for(fleet, processes, 30)
    for process in processes:
        process.link.cut = True
    fleet.upstream.serves = content(2)
    poll_for(fleet, processes, seconds)
    for process in processes:
        process.link.cut = False
    poll_for(fleet, processes, 60)
    assert [process.flags for process in processes] == [content(2)] * 3
    before = fleet.upstream.requests
    poll_for(fleet, processes, 300)
    assert fleet.upstream.requests <= before + 11


def test_a_process_cut_off_alone_never_throws_the_others_back(fleet: Fleet) -> None:
    """What it fetched by itself and holds since is older than what the fleet fetched after."""
    cut_off, other = fleet.process(), fleet.process()
    poll_for(fleet, [cut_off, other], 30)
    cut_off.link.cut = True
    fleet.upstream.serves = content(2)
    poll_for(fleet, [cut_off], 120)
    assert cut_off.flags == content(2)
    fleet.upstream.serves = content(3)
    poll_for(fleet, [other], 120)
    assert other.flags == content(3)
    cut_off.link.cut = False
    poll_for(fleet, [cut_off, other], 60)
    assert cut_off.flags == other.flags == content(3)


def test_a_process_that_starts_during_the_outage_helps_itself(fleet: Fleet) -> None:
    """Its first flags come from the vendor; when the store is back it shares them."""
    new = fleet.process()
    new.link.cut = True
    assert new.poll() is True
    assert new.flags == content(1)
    new.link.cut = False
    poll_for(fleet, [new], 60)
    other = fleet.process()
    assert other.poll() is False
    assert other.flags == content(1)
    [brought] = new.events(DefinitionsRepaired)
    assert not brought.known
    assert (brought.level, "lost" in str(brought)) == (logging.INFO, False)


def test_a_store_that_was_away_has_lost_nothing(fleet: Fleet) -> None:
    """What came meanwhile is newer than what it has, which is no warning; an empty one has lost it."""
    process = fleet.process()
    poll_for(fleet, [process], 30)
    process.link.cut = True
    fleet.upstream.serves = content(2)
    poll_for(fleet, [process], 120)
    process.link.cut = False
    poll_for(fleet, [process], 60)
    [brought] = process.events(DefinitionsRepaired)
    assert brought.behind
    assert brought.level == logging.INFO
    process.link.store = fleet.store = MemoryStore(fleet.store_clock)
    poll_for(fleet, [process], 60)
    [_, lost] = process.events(DefinitionsRepaired)
    assert not lost.behind
    assert lost.level == logging.WARNING


def test_a_store_that_comes_back_older_has_lost_the_newest(fleet: Fleet) -> None:
    """After a failover to a replica that lagged, it holds older definitions than this process has seen in it."""
    process = fleet.process()
    process.poll()
    lagging = copy.copy(fleet.store)
    fleet.upstream.serves = content(2)
    fleet.next_interval()
    process.poll()
    process.poll()
    assert process.flags == content(2)
    process.link.cut = True
    poll_for(fleet, [process], 2.5 * fleet.settings.refresh_interval)  # this process's own store has taken its place
    fleet.store = process.link.store = lagging
    process.link.cut = False
    poll_for(fleet, [process], 2.5 * fleet.settings.refresh_interval)
    [lost] = process.events(DefinitionsRepaired)
    assert (lost.behind, lost.level) == (False, logging.WARNING)
