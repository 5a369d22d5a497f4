"""What one process can't read while others can is left to them, and no process starves."""

from __future__ import annotations

import secrets
import zlib

import pytest

from flagcache.encoding.payload import digest, encode
from flagcache.encoding.protection import Signed
from flagcache.errors import UnreadableHereError
from flagcache.events import (
    DefinitionsRepaired,
    ForeignKey,
    ForeignKeyGone,
    ForeignProject,
    PayloadAccepted,
    PayloadRefused,
)
from flagcache.settings import Settings
from flagcache.stores.base import Published, Replacing
from flagcache.stores.memory import MemoryStore
from tests.support.in_process_fleet import Fleet, Process, content


def test_what_is_too_large_for_one_is_left_to_the_others(fleet: Fleet) -> None:
    """A smaller `max_decoded_bytes` deletes nothing: the process says so once, and fetches for itself."""
    fleet.upstream.serves = large = content(2, more="x" * 2000)
    fleet.process().poll()
    stored = fleet.stored
    fleet.settings = Settings(max_decoded_bytes=1024, cold_start_wait=0.1)
    small = fleet.process()
    for _ in range(3):
        small.poll()
        fleet.clock.advance(1)
    assert fleet.stored == stored
    assert small.flags == large
    [refused] = small.events(PayloadRefused)
    assert refused.kept
    assert "deleted" not in str(refused)
    assert small.link.asks[-1].held_version == digest(large)  # so that it is not sent again


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
def test_what_a_process_has_no_room_for_is_left_where_it_is(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Its memory or its stack is no fault of the payload: nothing is deleted, and it is read when there is room."""
    first, second = fleet.process(), fleet.process()
    first.poll()
    fleet.upstream.serves = content(2)
    fleet.next_interval()
    first.poll()
    stored = fleet.stored

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(zlib, "decompressobj", fail)
        second.poll()
    assert fleet.stored == stored
    fleet.clock.advance(1)
    second.poll()
    assert second.flags == content(2)


def test_what_is_refused_again_and_again_keeps_nothing_alive(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is kept for as long as it lasts, and must not keep frames with it, and so payloads: at no poll."""
    kept: list[BaseException] = []
    made = UnreadableHereError.__init__

    def remember(self: UnreadableHereError, what: str, *, passing: bool = False) -> None:
        made(self, what, passing=passing)
        kept.append(self)

    monkeypatch.setattr(UnreadableHereError, "__init__", remember)
    fleet.upstream.serves = content(2, more="x" * 2000)
    fleet.process().poll()
    fleet.settings = Settings(max_decoded_bytes=1024, cold_start_wait=0.1)
    small = fleet.process()
    for _ in range(3):
        small.poll()
        read = kept[0]  # later ones are of its own fetch, which is too large to be published
        assert (read.__traceback__, read.__context__, read.__cause__) == (None, None, None)
        fleet.clock.advance(1)


def test_who_discarded_takes_the_same_version_when_it_comes_back(fleet: Fleet) -> None:
    """Its payload was broken and no longer is: the next poll reads it."""
    holder, new = fleet.process(), fleet.process()
    holder.poll()
    meta = fleet.stored
    assert meta is not None
    fleet.clock.advance(1)
    fleet.plant(b"garbage", version="other")
    assert fleet.store.discard("another", "other")
    fleet.plant(b"garbage", version=meta.version)
    new.poll()
    fleet.clock.advance(1)
    holder.poll()
    new.poll()
    assert new.flags == content(1)
    assert fleet.upstream.requests == 1
    assert new.link.calls.count("discard") == 1


def reader_of_a_replica(fleet: Fleet) -> Process:
    """Start one."""
    fleet.settings = Settings(refresh_interval=30, cold_start_wait=0.05, role="reader")
    reader = fleet.process()
    reader.link.replica = True
    return reader


def test_what_a_reader_cannot_delete_is_not_told_as_deleted(fleet: Fleet) -> None:
    """Nor is it sent with each poll to one that holds definitions; a minute later it may have been repaired."""
    holder = fleet.process()
    holder.poll()
    reader = reader_of_a_replica(fleet)
    reader.poll()
    fleet.clock.advance(1)
    sound = digest(content(2))
    fleet.plant(b"garbage", version=sound)
    for _ in range(3):
        reader.poll()
        fleet.clock.advance(1)
    [refused] = reader.events(PayloadRefused)
    assert not refused.deleted
    assert "deleted:" not in str(refused)
    assert [ask.held_version for ask in reader.link.asks[-2:]] == [sound, sound]
    assert "discard" not in reader.link.calls
    assert reader.flags == content(1)
    assert fleet.store.discard("another", sound)
    fleet.plant(encode(content(2), sound), version=sound)
    fleet.clock.advance(60)
    reader.poll()
    assert reader.flags == content(2)
    assert reader.events(PayloadAccepted)


def test_a_reader_without_flags_looks_at_each_poll(fleet: Fleet) -> None:
    """What it cannot delete may be repaired at any moment, by the same version: it must not wait for that."""
    sound = digest(content(2))
    fleet.plant(b"garbage", version=sound)
    reader = reader_of_a_replica(fleet)
    reader.poll()
    assert fleet.store.discard("another", sound)
    fleet.plant(encode(content(2), sound), version=sound)
    fleet.clock.advance(1)
    reader.poll()
    assert reader.flags == content(2)


OURS, THEIRS = Signed(secrets.token_hex(16)), Signed(secrets.token_hex(16))


def ours(fleet: Fleet) -> Process:
    """Start a process with our key."""
    fleet.protection = OURS
    return fleet.process()


def theirs(fleet: Fleet) -> Process:
    """Start a process with their key."""
    fleet.protection = THEIRS
    return fleet.process()


def intrude(fleet: Fleet) -> None:
    """Store newer definitions with another worker's key, and keep them up to date."""
    fleet.protection, meta = THEIRS, fleet.stored
    assert meta is not None
    fleet.clock.advance(0.001)
    other = theirs(fleet)
    envelope = other.config.codec.write(
        content(9), meta._replace(version=digest(content(9)), as_of=fleet.store_clock())
    )
    envelope = envelope._replace(meta=envelope.meta._replace(confirmed_at=fleet.store_clock()))
    assert fleet.store.publish("intruder", envelope, fresh=False, lease=1).value != "stale"


def calls(process: Process, *verbs: str) -> list[str]:
    """Which of these verbs it called."""
    return [verb for verb in process.link.calls if verb in verbs]


def test_a_newcomer_without_the_key_asks_the_holders_and_goes_on_alone(fleet: Fleet) -> None:
    """It neither deletes nor replaces what others use, and has flags two seconds later by a fetch of its own."""
    theirs(fleet).poll()
    stored = fleet.stored
    new = ours(fleet)
    new.poll()
    fleet.clock.advance(1.9)
    new.poll()
    assert calls(new, "report") == ["report"]
    assert not new.events(ForeignKey)
    fleet.clock.advance(0.2)
    new.poll()
    assert new.flags == content(1)
    assert len(new.events(ForeignKey)) == 1
    for _ in range(5):
        fleet.clock.advance(1)
        new.poll()
    assert fleet.stored == stored
    assert not calls(new, "discard", "publish")


def test_a_reader_without_the_key_changes_nothing(fleet: Fleet) -> None:
    """Not even a notice is sent for it."""
    theirs(fleet).poll()
    fleet.settings = Settings(refresh_interval=30, cold_start_wait=0.05, role="reader")
    reader = ours(fleet)
    for _ in range(5):
        reader.poll()
        fleet.clock.advance(3)
    assert set(reader.link.calls) == {"poll"}


@pytest.mark.parametrize("holds", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_what_a_reader_does_without_is_said(fleet: Fleet, *, large: bool, holds: bool) -> None:
    """It never fetches: it keeps what it has, or has no flags."""
    ordinary = fleet.settings
    fleet.settings = Settings(refresh_interval=30, cold_start_wait=0.05, max_decoded_bytes=1024, role="reader")
    reader = ours(fleet)
    fleet.settings = ordinary
    writer = ours(fleet)
    if holds or not large:
        writer.poll()
    if holds:
        assert not reader.worker.should_fetch()
        assert reader.worker.definitions() == content(1)
    fleet.next_interval()
    if large:
        fleet.upstream.serves = content(2, more="x" * 2000)
        writer.poll()
    else:
        intrude(fleet)
    for _ in range(5):
        assert not reader.worker.should_fetch()
        fleet.clock.advance(3)
    [events] = reader.events(PayloadRefused) if large else reader.events(ForeignKey)
    assert ("keeps what it has" if holds else "has no flags") in str(events)
    assert "fetches" not in str(events)


def test_a_holder_replaces_what_it_lacks_the_key_of(fleet: Fleet) -> None:
    """At once, with its own definitions even if they are older; once per refresh interval for all workers."""
    first, second = ours(fleet), ours(fleet)
    first.poll()
    second.poll()
    before = fleet.stored
    intrude(fleet)
    first.poll()
    second.poll()
    assert fleet.stored == before
    assert [len(each.events(DefinitionsRepaired)) for each in (first, second)] == [1, 0]
    intrude(fleet)
    intruded = fleet.stored
    for _ in range(3):
        first.poll()
        second.poll()
    assert fleet.stored == intruded
    assert first.flags == second.flags == content(1)
    assert fleet.upstream.requests == 1


def test_what_it_lacks_the_key_of_is_not_told_as_lost(fleet: Fleet) -> None:
    """Redis evicted nothing, and the next repair that follows an eviction is the first of them."""
    process = ours(fleet)
    process.poll()
    intrude(fleet)
    process.poll()
    [replaced] = process.events(DefinitionsRepaired)
    assert replaced.unread
    assert "lost" not in str(replaced)
    fleet.store = process.link.store = MemoryStore(fleet.store_clock)
    fleet.clock.advance(1)
    process.poll()
    lost = process.events(DefinitionsRepaired)[1]
    assert (lost.unread, lost.quiet, lost.times) == (False, False, 1)


def test_a_holder_leaves_the_store_to_those_who_write_on(fleet: Fleet) -> None:
    """After three replacements of one key it says so, and stays alone while they keep the store up to date."""
    process = ours(fleet)
    process.poll()
    for _ in range(8):
        intrude(fleet)
        process.poll()
        fleet.clock.advance(fleet.settings.refresh_interval)
        intrude(fleet)
    assert len(process.events(DefinitionsRepaired)) == 3
    process.poll()
    assert process.events(ForeignKey)


def test_what_nobody_keeps_up_to_date_is_replaced_by_who_is_alone(fleet: Fleet) -> None:
    """The processes with the key are gone, and the vendor fails: a process that worked alone shares what it holds."""
    theirs(fleet).poll()
    alone = ours(fleet)
    alone.poll()
    fleet.clock.advance(2)
    alone.poll()
    assert alone.flags == content(1)
    fleet.upstream.down = True
    fleet.store.release(fleet.store.inspect().leader, idle=True)
    for _ in range(3):
        fleet.next_interval()
        alone.poll()
    assert alone.events(ForeignKeyGone)
    new = ours(fleet)
    new.poll()
    assert new.flags == content(1)


def test_another_project_with_another_key_is_not_overwritten(fleet: Fleet) -> None:
    """Two projects share a namespace by mistake, each with its own key: reported once, and nothing is overwritten."""
    fleet.upstream.serves = content(1, project="ours")
    process = ours(fleet)
    process.poll()
    fleet.store.release(fleet.store.inspect().leader, idle=True)
    fleet.clock.advance(1)
    fleet.store.clear()
    fleet.upstream.serves = content(9, project="theirs")
    other = theirs(fleet)
    other.poll()
    stored = fleet.stored
    assert stored is not None
    assert stored.project == "theirs"
    fleet.upstream.serves = content(2, project="ours")
    for _ in range(4):
        process.poll()
        fleet.next_interval()
    assert process.flags == content(2, project="ours")
    assert fleet.stored == stored
    assert [(event.ours, event.theirs) for event in process.events(ForeignProject)] == [("ours", "theirs")]
    assert not process.events(ForeignKey)
    assert not process.events(DefinitionsRepaired)


def test_whose_key_and_project_are_others_is_told_no_end_of_either(fleet: Fleet) -> None:
    """A new process learns its project by its own fetch: the key that it still lacks is not reported as found."""
    fleet.upstream.serves = content(9, project="theirs")
    theirs(fleet).poll()
    fleet.upstream.serves = content(1, project="ours")
    new = ours(fleet)
    for _ in range(4):
        new.poll()
        fleet.clock.advance(2.1)
    assert new.flags == content(1, project="ours")
    assert len(new.events(ForeignKey)) == len(new.events(ForeignProject)) == 1
    assert not new.events(ForeignKeyGone)


def test_what_is_protected_anew_with_a_known_key_is_taken_at_once(fleet: Fleet) -> None:
    """The version is the refused one, so that its payload was not sent: it is asked for in the same poll."""
    process, other = ours(fleet), theirs(fleet)
    process.poll()
    other.poll()
    intrude(fleet)
    fleet.settings = Settings(refresh_interval=30, cold_start_wait=0.05, role="reader")
    reader = ours(fleet)
    reader.poll()
    assert not (reader.flags or {}).get("flags")
    meta = fleet.stored
    assert meta is not None
    envelope = reader.config.codec.write(content(9), meta._replace(etag=""))
    published = fleet.store.publish("holder", envelope, fresh=False, lease=1, replacing=Replacing(meta.version, 0))
    assert published is Published.STORED
    asked = len(reader.link.asks)
    fleet.clock.advance(1)
    reader.poll()
    assert reader.flags == content(9)
    assert len(reader.link.asks) == asked + 2
    reader.poll()
    assert len(reader.link.asks) == asked + 3
