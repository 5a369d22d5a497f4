"""The store's clock is stepped: the fleet continues, and no worker goes back."""

from __future__ import annotations

import pytest

from flagcache.encoding.payload import digest
from flagcache.stores.memory import MemoryStore
from tests.support.in_process_fleet import Fleet, Process, content

HOUR = 3600.0


def intervals(fleet: Fleet, processes: list[Process], number: int) -> None:
    """Let intervals pass, with six polls of each process in each."""
    for _ in range(6 * number):
        for process in processes:
            process.poll()
        fleet.clock.advance(fleet.settings.refresh_interval / 6)


@pytest.mark.parametrize("step", [-HOUR, -40, -10, 10, 40, HOUR])
def test_a_step_stops_nothing(fleet: Fleet, step: float) -> None:
    """A change after the step reaches all within three intervals, and the vendor is not asked more than it should."""
    processes = [fleet.process() for _ in range(3)]
    intervals(fleet, processes, 3)
    fleet.stepped += step
    fleet.upstream.serves = content(2)
    before = fleet.upstream.requests
    intervals(fleet, processes, 3)
    assert [process.flags for process in processes] == [content(2)] * 3
    assert fleet.upstream.requests <= before + 6


@pytest.mark.parametrize("step", [-HOUR, -40, -10, 10, 40, HOUR])
def test_a_step_with_the_leader_dead_stops_nothing(fleet: Fleet, step: float) -> None:
    """The lease of one that is gone ends in any case, and another fetches."""
    dead, other = fleet.process(), fleet.process()
    intervals(fleet, [dead, other], 2)
    fleet.stepped += step
    fleet.upstream.serves = content(2)
    fleet.clock.advance(fleet.settings.lease_for())
    intervals(fleet, [other], 2)
    assert other.flags == content(2)


@pytest.mark.parametrize("steps", [(-HOUR, HOUR), (HOUR, -HOUR), (-HOUR, -HOUR), (HOUR, HOUR)])
def test_steps_there_and_back_throw_nobody_back(fleet: Fleet, steps: tuple[float, float]) -> None:
    """Each process sees the vendor's definitions in their order, whatever the store's clock says."""
    processes = [fleet.process() for _ in range(3)]
    history: dict[Process, list[object]] = {process: [] for process in processes}
    for revision in range(11, 23):
        fleet.upstream.serves = content(revision)
        if revision in (14, 18):
            fleet.stepped += steps[revision == 18]
        for _ in range(12):
            for process in processes:
                process.poll()
                history[process].append((process.flags or {})["flags"])
            fleet.clock.advance(fleet.settings.refresh_interval / 6)
    for seen in history.values():
        assert seen == sorted(seen, key=str)
        assert seen[-1] == [22]


def test_a_store_that_lost_all_and_whose_clock_is_behind_throws_nobody_back(fleet: Fleet) -> None:
    """Another server took over: what a process holds is ahead of its clock, and older than what came since."""
    old, new = fleet.process(), fleet.process()
    old.poll()
    fleet.store = old.link.store = new.link.store = MemoryStore(fleet.store_clock)
    fleet.stepped -= HOUR
    fleet.next_interval()
    fleet.upstream.serves = content(2)
    assert new.poll() is True
    fleet.clock.advance(1)
    old.poll()
    assert old.flags == content(2)
    assert fleet.stored is not None
    assert fleet.stored.version == digest(content(2))


def test_a_step_between_grant_and_delivery_loses_nothing(fleet: Fleet) -> None:
    """What a fetch brings after the clock was stepped back is kept, and the next change is too."""
    process, other = fleet.process(), fleet.process()
    process.poll()
    other.poll()
    fleet.next_interval()
    assert process.worker.should_fetch() is True
    fleet.stepped -= HOUR
    fleet.upstream.serves = content(2)
    process.fetch()
    other.poll()
    assert other.flags == content(2)
    fleet.upstream.serves = content(3)
    intervals(fleet, [process, other], 3)
    assert process.flags == other.flags == content(3)
