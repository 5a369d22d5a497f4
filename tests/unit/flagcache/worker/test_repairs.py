"""A store lost its definitions, or holds garbage or another project's: flags are kept, and the store is repaired."""

from __future__ import annotations

import logging

import pytest

from flagcache.encoding.payload import digest, encode
from flagcache.errors import EnvelopeError
from flagcache.events import (
    DefinitionsChanged,
    DefinitionsRepaired,
    ForeignProject,
    LateFetchRefused,
    PayloadRefused,
    StoreLost,
)
from flagcache.settings import Settings
from flagcache.stores.memory import MemoryStore
from tests.support.in_process_fleet import FLEET, Fleet, Process, content


def flush(fleet: Fleet, *processes: Process) -> None:
    """Put an empty store in the place of the fleet's."""
    fleet.store = MemoryStore(fleet.store_clock)
    for process in processes:
        process.link.store = fleet.store


def test_a_flushed_store_is_repaired_by_the_next_who_polls(fleet: Fleet) -> None:
    """With the definitions' own times, at the first poll, and without a request to the vendor."""
    first, second = fleet.process(), fleet.process()
    first.poll()
    second.poll()
    before = fleet.stored
    flush(fleet, first, second)
    fleet.clock.advance(5)
    second.poll()
    assert fleet.stored == before
    assert [event.store for event in second.events(DefinitionsRepaired)] == [FLEET]
    assert fleet.upstream.requests == 1


def test_a_store_that_loses_everything_over_and_over_is_said_once_a_minute(fleet: Fleet) -> None:
    """Each repair is an event, and the next line in the log has their number."""
    process = fleet.process()
    process.poll()
    for _ in range(14):
        flush(fleet, process)
        fleet.clock.advance(10)
        process.poll()
    events = process.events(DefinitionsRepaired)
    assert len(events) == 14
    assert [event.times for event in events if event.level >= logging.WARNING] == [1, 6, 6]


def test_a_store_that_evicts_nothing_is_not_said_to_do_so(fleet: Fleet) -> None:
    """The advice to look at Redis's memory is given of a Redis alone."""
    process = fleet.process()
    process.poll()
    for _ in range(8):
        flush(fleet, process)
        fleet.clock.advance(10)
        process.poll()
    events = process.events(DefinitionsRepaired)
    assert len(events) == 8
    assert not any("maxmemory" in str(event) or "evict" in str(event) for event in events)


def test_one_repairs_and_not_all(fleet: Fleet) -> None:
    """Of ten that hold more than the store, one is asked to repair it."""
    processes = [fleet.process() for _ in range(10)]
    for process in processes:
        process.poll()
    flush(fleet, *processes)

    def let_the_others_poll(verb: str) -> None:
        if verb == "publish":
            processes[0].link.before = lambda _verb: None
            for other in processes[1:]:
                other.poll()

    processes[0].link.before = let_the_others_poll
    processes[0].poll()
    assert sum(process.link.calls.count("publish") for process in processes) == 2  # the first fetch, and one repair


def test_new_processes_boot_from_a_repaired_store(fleet: Fleet) -> None:
    """After a flush, the next start costs no fetch."""
    old = fleet.process()
    old.poll()
    flush(fleet, old)
    old.poll()
    new = fleet.process()
    assert new.poll() is False
    assert new.flags == content(1)


def test_a_store_that_was_rolled_back_is_brought_forward(fleet: Fleet) -> None:
    """A failover lost the last write: a worker that holds it republishes it, and none takes the older one."""
    holder = fleet.process()
    holder.poll()
    fleet.upstream.serves = content(2)
    fleet.next_interval()
    holder.poll()
    newest = fleet.stored
    flush(fleet, holder)
    fleet.plant(encode(content(1), digest(content(1))), version=digest(content(1)), age=fleet.settings.refresh_interval)
    fleet.clock.advance(1)
    holder.poll()
    assert holder.flags == content(2)
    assert fleet.stored == newest


def test_a_repair_does_not_replace_what_is_newer(fleet: Fleet) -> None:
    """Between the poll that asks for it and the repair, another may have published."""
    old = fleet.process()
    old.poll()
    flush(fleet, old)
    fleet.clock.advance(1)

    def be_quicker(verb: str) -> None:
        if verb == "publish":
            fleet.plant(encode(content(2), digest(content(2))), version=digest(content(2)))

    old.link.before = be_quicker
    old.poll()
    assert fleet.stored is not None
    assert fleet.stored.version == digest(content(2))
    old.poll()
    assert old.flags == content(2)
    assert not old.events(LateFetchRefused)


@pytest.mark.parametrize("payload", [b"", b"garbage", encode({"flags": 7}, "planted"), encode(content(2), "other")])
def test_an_unreadable_payload_is_discarded_and_repaired(fleet: Fleet, payload: bytes) -> None:
    """Garbage, nothing, no definitions, another's: reported once, flags kept, the store repaired at the next poll."""
    process = fleet.process()
    process.poll()
    fleet.clock.advance(5)
    fleet.plant(payload)
    for _ in range(3):
        process.poll()
        fleet.clock.advance(2)
    assert process.flags == content(1)
    assert [event.version for event in process.events(PayloadRefused)] == ["planted"]
    stored = fleet.stored
    assert stored is not None
    assert stored.version == digest(content(1))


def test_a_new_process_does_not_take_what_is_unreadable(fleet: Fleet) -> None:
    """It discards it, and fetches: the first one to come heals the store for all."""
    fleet.plant(b"garbage")
    first, second = fleet.process(), fleet.process()
    first.poll()
    assert first.events(PayloadRefused)
    first.poll()
    second.poll()
    assert first.flags == second.flags == content(1)
    assert fleet.upstream.requests == 1


def test_what_is_too_large_is_refused(fleet: Fleet) -> None:
    """The bound of the settings holds for what the store hands out."""
    fleet.settings = Settings(max_decoded_bytes=1024, cold_start_wait=0.1)
    large = content(2, more="x" * 2000)
    fleet.plant(encode(large, digest(large)), version=digest(large))
    process = fleet.process()
    process.poll()
    assert process.events(PayloadRefused)
    assert (process.flags or {}).get("flags") in ([], [1])


def test_a_fetch_brought_during_an_outage_is_offered_afterwards(fleet: Fleet) -> None:
    """The store was away when the fetch came back: it is kept, and offered as the fetch that it was."""
    process = fleet.process()
    process.poll()
    fleet.next_interval()
    assert process.worker.should_fetch() is True
    granted = fleet.store_clock()
    process.link.cut = True
    process.worker.received(content(2))
    assert process.events(StoreLost)
    assert process.worker.definitions() == content(2)
    process.link.cut = False
    fleet.clock.advance(2)
    process.poll()
    stored = fleet.stored
    assert stored is not None
    assert (stored.version, stored.as_of) == (digest(content(2)), granted)


def test_a_fetch_brought_during_an_outage_is_refused_if_others_moved_on(fleet: Fleet) -> None:
    """It counts as a fetch under way until a store takes it. A later fetch that may have confirmed others stops it.

    Until another fetch is answered the process that has it continues with it.
    """
    late, other = fleet.process(), fleet.process()
    late.poll()
    other.poll()
    fleet.next_interval()
    assert late.worker.should_fetch() is True
    late.link.cut = True
    late.worker.received(content(2))
    fleet.clock.advance(fleet.settings.lease_for() + 1)
    fleet.upstream.serves = content(1)  # which is stored still, so that the next fetch only confirms it
    assert other.worker.should_fetch() is True
    late.link.cut = False
    late.poll()
    assert fleet.stored is not None
    assert fleet.stored.version == digest(content(1))
    assert late.flags == content(2)
    fleet.upstream.serves = content(3)
    other.worker.received(content(3))
    late.poll()
    assert late.flags == content(3)


def test_another_projects_definitions_are_refused(fleet: Fleet) -> None:
    """It is reported once, never used and never overwritten; the process fetches for itself."""
    fleet.upstream.serves = content(1, project="ours")
    process = fleet.process()
    process.poll()
    fleet.clock.advance(5)
    theirs = content(9, project="theirs")
    planted = fleet.plant(encode(theirs, digest(theirs)), version=digest(theirs), project="theirs")
    fleet.upstream.serves = content(2, project="ours")
    for _ in range(6):
        fleet.next_interval()
        process.poll()
    assert process.flags == content(2, project="ours")
    (foreign,) = process.events(ForeignProject)
    assert (foreign.ours, foreign.theirs) == ("ours", "theirs")
    assert fleet.stored == planted


def test_a_reader_of_another_project_keeps_what_it_has(fleet: Fleet) -> None:
    """It never fetches, and does not say so."""
    fleet.upstream.serves = content(1, project="ours")
    fleet.process().poll()
    fleet.settings = Settings(refresh_interval=30, role="reader")
    reader = fleet.process()
    reader.worker.learn_project("ours")
    assert not reader.worker.should_fetch()
    assert reader.worker.definitions() == content(1, project="ours")
    fleet.clock.advance(5)
    theirs = content(9, project="theirs")
    fleet.plant(encode(theirs, digest(theirs)), version=digest(theirs), project="theirs")
    fleet.next_interval()
    assert not reader.worker.should_fetch()
    (foreign,) = reader.events(ForeignProject)
    assert "keeps what it has" in str(foreign)
    assert "fetches" not in str(foreign)


def test_when_the_other_project_is_gone_the_process_comes_back(fleet: Fleet) -> None:
    """After the namespace is cleared, the worker uses it again."""
    fleet.upstream.serves = content(1, project="ours")
    process = fleet.process()
    process.poll()
    theirs = content(9, project="theirs")
    fleet.clock.advance(1)
    fleet.plant(encode(theirs, digest(theirs)), version=digest(theirs), project="theirs")
    process.poll()
    fleet.store.clear()
    fleet.upstream.serves = content(2, project="ours")
    for _ in range(3):
        fleet.next_interval()
        process.poll()
    assert process.worker.know.view(FLEET).leads
    assert fleet.stored is not None
    assert fleet.stored.project == "ours"


def test_a_cleared_store_is_filled_by_whoever_can(fleet: Fleet) -> None:
    """After an operator cleared it, workers with the old definitions get "unchanged", and let a new one lead."""
    olds = [fleet.process() for _ in range(3)]
    for old in olds:
        old.poll()
    fleet.store.clear()
    fleet.next_interval()
    for old in olds:
        old.poll()
    new = fleet.process()
    for _ in range(6):
        for process in (*olds, new):
            process.poll()
        fleet.next_interval()
    assert new.flags == content(1)
    assert fleet.stored is not None
    assert fleet.stored.epoch == 1
    assert [old.flags for old in olds] == [content(1)] * 3


def test_what_it_holds_never_goes_back(fleet: Fleet) -> None:
    """A store that offers something older is not listened to."""
    process = fleet.process()
    fleet.upstream.serves = content(2)
    process.poll()
    flush(fleet, process)
    fleet.plant(encode(content(1), digest(content(1))), version=digest(content(1)), age=60)
    for _ in range(3):
        process.poll()
        fleet.clock.advance(1)
    assert [event.version for event in process.events(DefinitionsChanged)] == [digest(content(2))]


def test_the_planted_payloads_are_what_they_claim() -> None:
    """The cases above plant what they say: well-formed bytes of no definitions, and a payload of another version."""
    with pytest.raises(EnvelopeError):
        Fleet().vendor.check({"flags": 7})
