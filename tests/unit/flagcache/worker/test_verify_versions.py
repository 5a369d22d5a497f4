"""What a version names: one content, and none is taken under another's name; with an encryption key none is guessed."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from flagcache.encoding import payload as encoding
from flagcache.encoding.payload import digest, encode, is_digest
from flagcache.encoding.protection import Protection, Sealed, Signed
from flagcache.events import DefinitionsChanged, DefinitionsRepaired, PayloadRefused
from flagcache.stores.base import Envelope, Published
from tests.support.in_process_fleet import Fleet, Process, content

OLD, NEW = secrets.token_hex(16), secrets.token_hex(16)


class SealedBy01(Sealed):
    """As 0.1 sealed: it named contents by their digest."""

    def names(self, digest: str) -> tuple[str, ...]:
        """Return the digest."""
        return (digest,)


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every digest that is computed from now on."""
    computed: list[str] = []

    def count(definitions: dict[str, object]) -> str:
        computed.append(digest(definitions))
        return computed[-1]

    monkeypatch.setattr(encoding, "digest", count)
    return computed


def forge(fleet: Fleet, payload: bytes) -> None:
    """Put another payload under the stored version, as a writer to a plain store can."""
    meta = fleet.stored
    assert meta is not None
    later = meta._replace(as_of=meta.as_of + 1)
    assert fleet.store.publish("x", Envelope(later, payload), fresh=False, lease=1) is not Published.STALE


def test_another_content_under_the_true_name_is_refused_and_replaced(fleet: Fleet) -> None:
    """A new process discards it, says so, and a holder restores the true one: no client evaluates with it."""
    holder = fleet.process()
    holder.poll()
    version = fleet.stored.version if fleet.stored else ""
    fleet.clock.advance(1)
    forge(fleet, encode(content(666), version))
    new = fleet.process()
    new.poll()
    assert new.flags != content(666)
    [refused] = new.events(PayloadRefused)
    assert "not those that its version names" in str(refused)
    fleet.clock.advance(1)
    holder.poll()
    new.poll()
    assert (new.flags, holder.flags) == (content(1), content(1))
    assert len(holder.events(DefinitionsRepaired)) == 1
    assert fleet.upstream.requests == 1


def test_a_content_is_named_once_by_each_process_that_has_not_fetched_it(fleet: Fleet, digests: list[str]) -> None:
    """A fetch computes one digest, a reader one per change, and an unchanged poll none."""
    leader, follower = fleet.process(), fleet.process()
    for revision in (1, 2):
        fleet.upstream.serves = content(revision)
        digests.clear()
        leader.poll()
        assert digests == [digest(content(revision))]
        follower.poll()
        assert digests == [digest(content(revision))] * 2
        for _ in range(3):
            leader.poll()
            follower.poll()
        assert len(digests) == 2
        fleet.next_interval()


@pytest.mark.parametrize("protection", [Signed(OLD), Sealed(OLD)], ids=["signed", "sealed"])
def test_what_a_key_binds_to_its_name_is_not_named_again(
    fleet: Fleet, digests: list[str], protection: Protection
) -> None:
    """With a key a reader computes no digest: only a process with the key can have named the content."""
    fleet.protection = protection
    leader, follower = fleet.process(), fleet.process()
    leader.poll()
    follower.poll()
    assert follower.flags == content(1)
    assert len(digests) == 1


@pytest.mark.parametrize("version", ["zz", "F" * 32, "f" * 31, "f" * 33, "f" * 31 + "g"])
@pytest.mark.parametrize("protection", [None, Signed(OLD)], ids=["plain", "signed"])
def test_what_is_named_by_no_digest_is_dropped(fleet: Fleet, version: str, protection: Protection | None) -> None:
    """A version is 32 hexadecimal digits: definitions with another name are refused, even if they are well-formed."""
    fleet.protection = protection or fleet.protection
    codec = fleet.process().config.codec
    meta = fleet.plant(b"", version=version)
    envelope = codec.write(content(1), meta._replace(as_of=meta.as_of + 1))
    assert fleet.store.publish("x", envelope, fresh=False, lease=1) is Published.CONFIRMED
    fleet.occupy()
    new = fleet.process()
    new.poll()
    assert new.flags == {"flags": []}
    assert len(new.events(PayloadRefused)) == 1
    assert fleet.stored is None


def test_a_sealed_store_names_contents_by_a_key(fleet: Fleet) -> None:
    """Without the key a version doesn't confirm a guess; two processes with the key give the same version."""
    fleet.protection = Sealed(OLD)
    leader, follower = fleet.process(), fleet.process()
    leader.poll()
    follower.poll()
    stored = fleet.stored
    assert stored is not None
    assert is_digest(stored.version)
    assert stored.version != digest(content(1))
    assert stored.version == Sealed(OLD).names(digest(content(1)))[0] != Sealed(NEW).names(digest(content(1)))[0]
    assert follower.flags == content(1)


def published(fleet: Fleet, processes: list[Callable[[], object]], times: int) -> list[str]:
    """The names under which the store has the content, each time that one of these polls after an interval."""
    names: list[str] = []
    for turn in range(times):
        fleet.next_interval()
        processes[turn % len(processes)]()
        stored = fleet.stored
        assert stored is not None
        if not names or names[-1] != stored.version:
            names.append(stored.version)
    return names


def test_rotated_keys_publish_nothing_again(fleet: Fleet) -> None:
    """Workers of two steps of a rotation fetch the same content by turns: it keeps the name that it has."""
    fleet.protection = Sealed([OLD, NEW])
    before = fleet.process()
    fleet.protection = Sealed([NEW, OLD])
    after = fleet.process()
    turns = [lead_once(before), lead_once(after)]
    names = published(fleet, turns, 16)
    assert fleet.upstream.requests == 15  # the second starts with what is stored
    assert names == [Sealed(OLD).names(digest(content(1)))[0]]
    assert (before.flags, after.flags) == (content(1), content(1))
    assert [len(process.events(DefinitionsChanged)) for process in (before, after)] == [1, 1]


def lead_once(process: Process) -> Callable[[], object]:
    """Poll, fetch without an entity tag, so that the whole content comes and not "unchanged", and leave the lead."""

    def turn() -> None:
        process.etag = ""
        process.poll()
        process.worker.leave()

    return turn


def test_beside_workers_of_01_a_content_changes_its_name_once(fleet: Fleet) -> None:
    """One that names by the plain digest and one that names by the key lead by turns: no two names alternate."""
    fleet.protection = SealedBy01(OLD)
    old = fleet.process()
    fleet.protection = Sealed(OLD)
    new = fleet.process()
    turns = [lead_once(new), lead_once(old)]
    names = published(fleet, turns, 16)
    assert fleet.upstream.requests == 15  # the second starts with what is stored
    keyed, plain = Sealed(OLD).names(digest(content(1)))
    assert names == [keyed, plain]
    assert (old.flags, new.flags) == (content(1), content(1))
    fleet.upstream.serves = content(2)
    assert published(fleet, [turns[0]], 30)[-1] == Sealed(OLD).names(digest(content(2)))[0]
