"""What replaces the definitions in the fallback file: the age decides, not epoch, clock or key."""

from __future__ import annotations

import math

import pytest

from flagcache.core.knowledge import Held
from flagcache.encoding.codec import Codec
from flagcache.encoding.payload import digest
from flagcache.encoding.protection import Signed
from flagcache.stores.base import Meta
from tests.support.in_process_fleet import FLEET, Fleet, content
from tests.unit.flagcache.worker.test_last_known_good import FallbackDisk, written

__all__ = ["written"]

HOUR = 3600.0
OLD, NEW = "o" * 16, "n" * 16


def hold(disk: FallbackDisk, revision: int, *, epoch: int = 0, age: float = 0.0) -> str:
    """Hold these, which another process fetched `age` seconds ago; returns their version."""
    definitions, at = content(revision), round((disk.clock() - age) * 1000)
    meta = Meta(digest(definitions), epoch, as_of=at, changed_at=at, confirmed_at=at)
    disk.state.update(lambda know: know._replace(held=None))
    disk.state.adopt(Held(meta, definitions, FLEET, disk.clock() - age), fetched=False)
    return meta.version


def recalled(disk: FallbackDisk) -> object:
    """What a process that holds nothing gets from the fallback store."""
    disk.state.update(lambda know: know._replace(held=None))
    disk.fallback.load()
    held = disk.state.know.held
    return held.definitions if held else None


@pytest.mark.parametrize("emptied", [False, True], ids=["kept", "emptied"])
def test_a_store_that_lost_its_epoch_does_not_freeze_the_fallback(fleet: Fleet, *, emptied: bool) -> None:
    """Redis was cleared and emptied: its definitions have a lower epoch than the fallback store, and are younger."""
    disk = FallbackDisk(fleet)
    hold(disk, 2, epoch=1)
    disk.fallback.save()
    if emptied:
        disk.store.discard("another", disk.version)
    for revision in (3, 4, 5):
        fleet.clock.advance(10.0)
        version = hold(disk, revision)
        disk.fallback.save()
        assert disk.version == version
    calls = len(disk.link.calls)
    disk.fallback.offer_soon(later=False)
    assert len(disk.link.calls) == calls  # and it is known to be there: no poll asks again
    assert recalled(FallbackDisk(fleet, store=disk.store)) == content(5)


def test_what_is_older_never_replaces_what_is_younger(fleet: Fleet) -> None:
    """A process that was frozen holds what the fallback store has newer of."""
    disk = FallbackDisk(fleet)
    late = FallbackDisk(fleet, store=disk.store)
    newer = hold(disk, 2)
    disk.fallback.save()
    fleet.clock.advance(1.0)
    hold(late, 1, age=5.0)
    late.fallback.save()
    assert disk.version == newer


def test_a_clock_that_was_ahead_does_not_freeze_the_fallback(fleet: Fleet) -> None:
    """What was written under a time of the future gives way to all that comes after the clock was put right."""
    disk = FallbackDisk(fleet)
    fleet.clock.advance(HOUR)
    hold(disk, 1)
    disk.fallback.save()
    fleet.clock.advance(-HOUR)  # the file's clock: the process's own is that of a new one
    late = FallbackDisk(fleet, store=disk.store)
    for revision in (2, 3, 4):
        fleet.clock.advance(10.0)
        version = hold(late, revision)
        late.fallback.save()
        assert late.version == version
    stored = late.store.inspect().meta
    assert stored is not None
    assert stored.confirmed_at == round(fleet.clock() * 1000)
    again = hold(late, 4)
    fleet.clock.advance(2 * late.config.stale_after)
    assert hold(late, 4) == again
    late.fallback.save()
    stored = late.store.inspect().meta
    assert stored is not None
    assert stored.confirmed_at == round(fleet.clock() * 1000)  # its times are renewed too


def test_a_time_of_the_future_is_never_fresh(fleet: Fleet) -> None:
    """A new process that is given definitions of the future does not take them for just confirmed."""
    disk = FallbackDisk(fleet)
    fleet.clock.advance(HOUR)
    hold(disk, 1)
    disk.fallback.save()
    fleet.clock.advance(-HOUR)
    new = FallbackDisk(fleet, store=disk.store)
    assert recalled(new) == content(1)
    assert new.state.is_stale
    held = new.state.know.held
    assert held is not None
    assert fleet.clock() - held.born > HOUR
    version = hold(new, 2, age=60.0)  # of another store, and certainly not of the future
    held = new.state.know.held
    assert held is not None
    assert held.meta.version == version


def test_an_old_key_never_replaces_a_new_one(fleet: Fleet, written: list[str]) -> None:
    """A process that lacks the key of what is there leaves it to those who have it, for as long as they renew it."""
    new = FallbackDisk(fleet, Signed([NEW, OLD]))
    version = hold(new, 1)
    new.fallback.save()
    old = FallbackDisk(fleet, Signed(OLD), new.store)
    for _ in range(3):
        fleet.clock.advance(old.config.stale_after / 4)
        hold(old, 1)
        old.fallback.save()
    assert written == [version]
    assert recalled(FallbackDisk(fleet, Signed(NEW), new.store)) == content(1)


def test_a_key_that_no_process_has_any_more_is_replaced(fleet: Fleet) -> None:
    """Those who had it are gone, so that its times stay behind: then the file is protected again."""
    gone = FallbackDisk(fleet, Signed(OLD))
    hold(gone, 1)
    gone.fallback.save()
    new = FallbackDisk(fleet, Signed(NEW), gone.store)
    for _ in range(5):
        fleet.clock.advance(new.config.stale_after / 4)
        hold(new, 1)
        new.fallback.offer_soon(later=False)
    assert recalled(FallbackDisk(fleet, Signed(NEW), gone.store)) == content(1)


def test_a_key_on_its_way_out_is_looked_for_again(fleet: Fleet) -> None:
    """A worker of the step before may write the file once more: those of the next one find that with the times."""
    before = FallbackDisk(fleet, Signed([OLD, NEW]))
    after = FallbackDisk(fleet, Signed([NEW, OLD]), before.store)
    for disk in (after, before):
        hold(disk, 1)
        disk.fallback.save()
    fleet.clock.advance(after.config.stale_after)
    hold(after, 1)
    after.fallback.offer_soon(later=False)
    assert recalled(FallbackDisk(fleet, Signed(NEW), before.store)) == content(1)


def test_the_file_is_never_without_definitions_while_they_are_protected_anew(fleet: Fleet) -> None:
    """The new bytes replace the old ones in one step: a process that is killed in between leaves what there was."""
    before = FallbackDisk(fleet, Signed(OLD))
    version = hold(before, 1)
    before.fallback.save()
    after = FallbackDisk(fleet, Signed([NEW, OLD]), before.store)
    seen: list[str] = []
    after.link.before = lambda _verb: seen.append(after.version)
    hold(after, 1)
    after.fallback.save()
    assert set(seen) == {version}
    assert recalled(FallbackDisk(fleet, Signed(NEW), before.store)) == content(1)


def test_a_younger_project_name_goes_with_its_own_payload(fleet: Fleet) -> None:
    """Metadata under the new key beside a payload under the old one could be read by no process one day."""
    before = FallbackDisk(fleet, Signed(OLD))
    hold(before, 1)
    before.fallback.save()
    fleet.clock.advance(1.0)
    codec = Codec("team", Signed([NEW, OLD]), limit=fleet.settings.max_decoded_bytes)
    at = round(fleet.clock() * 1000)
    meta = Meta(before.version, 0, at, at, at, project="named")
    before.store.publish("other", codec.write(content(1), meta), fresh=False, lease=1)
    assert recalled(FallbackDisk(fleet, Signed(NEW), before.store)) == content(1)


def test_nothing_is_asked_while_nothing_changes(fleet: Fleet) -> None:
    """A process whose content is there asks again when its times are old, and not at each poll."""
    disk = FallbackDisk(fleet)
    hold(disk, 1)
    disk.fallback.save()
    calls = len(disk.link.calls)
    for _ in range(4):
        fleet.clock.advance(disk.config.stale_after / 5)
        hold(disk, 1)
        disk.fallback.offer_soon(later=False)
    assert len(disk.link.calls) == calls
    assert disk.fallback.due_at == math.inf
