"""A signed `clear`: what undoes it, and what it says of the machine's file."""

from __future__ import annotations

from flagcache.encoding.protection import Signed
from flagcache.stores.base import Scope
from flagcache.stores.memory import MemoryStore
from flagcache.vendor import Refused
from tests.support.in_process_attacker import AttachedProcess, RefusingUpstream, make_fleet
from tests.support.in_process_fleet import content


def test_a_clear_to_an_epoch_that_was_forged_before_stays() -> None:
    """A worker doubts the forged epoch; another undoes it, and people raise it to the same number, with a signature."""
    fleet, writer = make_fleet()
    fleet.protection = Signed("0123456789abcdef" * 2)
    first, second = AttachedProcess(fleet), AttachedProcess(fleet)
    for _ in range(2):
        for worker in (first, second):
            worker.poll()
            fleet.clock.advance(10)
    writer.state(epoch=1, epoch_stamp="forged")
    for worker in (first, second, second):
        worker.poll()
    assert fleet.store.inspect().epoch == 0
    stamps = first.config.codec.stamps
    assert fleet.store.clear(stamps.of_epoch(1)) == 1
    fleet.upstream.serves = content(2)
    for _ in range(3):
        for worker in (first, second):
            worker.poll()
            fleet.clock.advance(10)
    assert fleet.store.inspect().epoch == 1
    assert [first.flags, second.flags] == [content(2)] * 2


def test_what_people_cleared_is_not_fresh_in_the_machines_file() -> None:
    """A process finds the fleet's store cleared, and PostHog fails: it starts from the file, and calls it stale."""
    fleet, _ = make_fleet()
    fleet.protection, fleet.disk = Signed("0123456789abcdef" * 2), MemoryStore(fleet.store_clock)
    before = AttachedProcess(fleet)
    before.poll()
    before.poll()
    assert before.fresh
    assert fleet.disk.inspect().meta is not None
    fleet.store.clear(before.config.codec.stamps.of_epoch(1))
    upstream = fleet.upstream
    assert isinstance(upstream, RefusingUpstream)
    upstream.refuses = Refused("status 503", Scope.EVERYBODY, 503)
    newcomer = AttachedProcess(fleet)
    newcomer.poll()
    assert newcomer.flags == content(1)
    assert not newcomer.fresh
