"""A signed `clear` beside an attacker who raises the epoch without a key."""

from __future__ import annotations

from flagcache.encoding.protection import Signed
from tests.support.in_process_attacker import AttachedProcess, make_fleet
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
