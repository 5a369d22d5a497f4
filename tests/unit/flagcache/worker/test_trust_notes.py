"""Notes and epochs in a fleet with a key: only what was signed, and is the latest word, is believed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flagcache.encoding.protection import PLAIN, Protection, Signed
from flagcache.encoding.stamps import Stamps
from flagcache.events import QuotaLimited
from flagcache.stores.base import Scope
from flagcache.vendor import Refused
from tests.support.in_process_attacker import HOUR, AttachedProcess, RefusingUpstream, StoreWriter, make_fleet
from tests.support.in_process_fleet import FLEET, Fleet, content

KEY = "0123456789abcdef" * 2
QUOTA = Refused("quota", Scope.EVERYBODY, 402, retry_after=20.0)


class ThreeWorkers:
    """Three workers that hold revision 1."""

    def __init__(self, protection: Protection) -> None:
        self.fleet, self.writer = make_fleet()
        self.fleet.protection = protection
        self.members = [AttachedProcess(self.fleet) for _ in range(3)]
        self.run(2)

    def run(self, intervals: int, between: Callable[[StoreWriter], None] = lambda _writer: None) -> None:
        """Let all poll every third of an interval."""
        for _ in range(3 * intervals):
            self.fleet.clock.advance(self.fleet.settings.refresh_interval / 3)
            for member in self.members:
                between(self.writer)
                member.poll()

    def refuse(self, refuses: Refused | None) -> None:
        """PostHog answers so from now on."""
        assert isinstance(self.fleet.upstream, RefusingUpstream)
        self.fleet.upstream.refuses = refuses

    @property
    def flags(self) -> list[object]:
        """What the clients of all are handed."""
        return [member.worker.definitions() for member in self.members]


@pytest.fixture
def three() -> ThreeWorkers:
    """With a key."""
    return ThreeWorkers(Signed(KEY))


def forge_a_note(writer: StoreWriter, fleet: Fleet, *, length: int = HOUR, stamp: str = "") -> None:
    """Forge a note that PostHog's quota is used up."""
    until = fleet.store_clock() + length
    writer.state(backoff_status=402, backoff_until=until, backoff_length=length, backoff_stamp=stamp)


def test_a_note_of_ours_is_believed_by_all(three: ThreeWorkers) -> None:
    """One fetch is refused, and all go without flags; when one succeeds, all have them again."""
    three.refuse(QUOTA)
    three.run(2)
    assert three.flags == [{"flags": []}] * 3
    before = three.fleet.upstream.requests
    three.run(3)
    assert three.fleet.upstream.requests - before <= 4
    assert all(len(member.events(QuotaLimited)) == 1 for member in three.members)
    three.refuse(None)
    three.run(2)
    assert three.flags == [content(1)] * 3


def test_a_forged_note_takes_no_flag(three: ThreeWorkers) -> None:
    """One write, or one before each poll: no process believes it, and the fleet fetches as before."""
    before = three.fleet.upstream.requests
    for often in (False, True):

        def attack(writer: StoreWriter, often: bool = often) -> None:
            if often:
                forge_a_note(writer, three.fleet)

        forge_a_note(three.writer, three.fleet)
        three.run(3, attack)
        assert three.flags == [content(1)] * 3
    assert not any(member.events(QuotaLimited) for member in three.members)
    assert 5 <= three.fleet.upstream.requests - before <= 8


def test_a_note_that_was_true_once_is_not_believed_again(three: ThreeWorkers) -> None:
    """Replayed after a fetch has succeeded, and to a newcomer on an emptied store when its time is over."""
    three.refuse(QUOTA)
    three.run(1)
    note = three.writer.keep()[0]
    assert (note.backoff_status, bool(note.backoff_stamp)) == (402, True)
    three.refuse(None)
    three.run(2)
    counts = [len(member.events(QuotaLimited)) for member in three.members]
    forge_a_note(three.writer, three.fleet, stamp=note.backoff_stamp)
    three.run(1)
    assert three.flags == [content(1)] * 3
    assert [len(member.events(QuotaLimited)) for member in three.members] == counts
    three.run(10)
    three.writer.state(meta=None)
    forge_a_note(three.writer, three.fleet, stamp=note.backoff_stamp)
    newcomer = AttachedProcess(three.fleet)
    newcomer.poll()
    assert not newcomer.events(QuotaLimited)


def test_a_note_lasts_no_longer_than_was_signed(three: ThreeWorkers) -> None:
    """A true note that an attacker extends to an hour does not keep the fleet from finding that it is over."""
    three.refuse(QUOTA)
    three.run(1)
    stamp = three.writer.keep()[0].backoff_stamp
    three.refuse(None)
    forge_a_note(three.writer, three.fleet, stamp=stamp)
    three.run(4)
    assert three.flags == [content(1)] * 3


def test_a_note_that_a_store_makes_longer_lasts_no_longer(three: ThreeWorkers) -> None:
    """An attacker extends a note of 20 s to the longest that a store believes: all have flags long before its end."""
    three.refuse(QUOTA)
    three.run(1)
    stamp = three.writer.keep()[0].backoff_stamp
    for member in three.members:  # a process whose fetch has just failed polls as if the note were over, so poll again
        member.poll()
    three.refuse(None)
    forge_a_note(three.writer, three.fleet, length=HOUR, stamp=stamp)
    three.run(1)
    assert three.flags == [{"flags": []}] * 3
    three.run(3)
    assert three.flags == [content(1)] * 3


def test_without_a_key_a_note_is_believed_for_five_minutes() -> None:
    """A note counts for at most five minutes, or the process's own back-off; then a worker fetches."""
    three = ThreeWorkers(PLAIN)
    forge_a_note(three.writer, three.fleet)
    three.run(9)
    assert three.flags == [{"flags": []}] * 3
    three.run(4)
    assert three.flags == [content(1)] * 3


def test_a_signed_clear_empties_the_store_for_all(three: ThreeWorkers) -> None:
    """Workers believe the epoch that came with a stamp: no worker restores the old definitions, and all fetch again."""
    codec = three.members[0].config.codec
    three.fleet.upstream.serves = content(2)
    assert three.fleet.store.clear(codec.stamps.of_epoch(1)) == 1
    three.run(2)
    assert three.fleet.store.inspect().epoch == 1
    assert three.flags == [content(2)] * 3
    newcomer = AttachedProcess(three.fleet)
    newcomer.poll()
    held = newcomer.worker.know.held
    assert held is not None
    assert (held.meta.epoch, held.unproved) == (1, False)


def test_what_was_cleared_is_of_unknown_age_when_it_is_put_back(three: ThreeWorkers) -> None:
    """A newcomer starts with it as with something stale, although its times were signed a moment ago."""
    kept, codec = three.writer.keep(), three.members[0].config.codec
    assert three.fleet.store.clear(codec.stamps.of_epoch(1)) == 1
    three.writer.put_back(kept, epoch=1)
    newcomer = AttachedProcess(three.fleet)
    newcomer.worker.should_fetch()
    held = newcomer.worker.know.held
    assert held is not None
    assert (held.definitions, held.unproved) == (content(1), True)
    assert not newcomer.fresh


@pytest.mark.parametrize("stamp", ["", "of another epoch"])
def test_a_clear_that_nobody_signed_is_undone(three: ThreeWorkers, stamp: str) -> None:
    """Holders bring back what they hold within two polls, without a fetch."""
    codec, before = three.members[0].config.codec, three.fleet.upstream.requests
    three.fleet.store.clear(codec.stamps.of_epoch(7) if stamp else "")
    three.run(2)
    assert three.fleet.store.inspect().epoch == 0
    assert three.fleet.stored is not None
    assert three.flags == [content(1)] * 3
    assert three.fleet.upstream.requests - before <= 4


def test_clear_works_whatever_epoch_was_forged(three: ThreeWorkers) -> None:
    """From the highest number there is, and from one in its place: the next epoch is newer than all that are held."""
    codec = three.members[0].config.codec
    for forged in (2**53 - 1, 2**52, 10**6, 0):
        three.run(2)
        meta = three.writer.keep()[0].meta
        three.writer.state(epoch=forged, meta=meta and meta._replace(epoch=forged))
        for _ in range(3):
            expected = three.fleet.store.inspect().epoch + 1
            if three.fleet.store.clear(codec.stamps.of_epoch(expected)) == expected:
                break
        else:
            pytest.fail("no clear was signed")
        epoch = three.fleet.store.inspect().epoch
        assert three.fleet.stored is None
        three.run(2)
        assert three.fleet.store.inspect().epoch >= epoch
        assert three.fleet.stored is not None


def test_a_clear_of_a_spoilt_epoch_brings_back_nothing_that_was_cleared(three: ThreeWorkers) -> None:
    """The epoch after one that was forged too high is above all counted ones, although the count is lost."""
    codec = three.members[0].config.codec
    for epoch in (1, 2, 3):
        assert three.fleet.store.clear(codec.stamps.of_epoch(epoch)) == epoch
    three.run(2)
    three.writer.state(epoch=2**53 - 1, epoch_stamp="")
    raised = three.fleet.store.clear(codec.stamps.of_epoch(three.fleet.store_clock()))
    assert raised > 3
    three.fleet.upstream.serves = content(2)
    three.members[1].poll()
    assert three.fleet.stored is None or three.fleet.stored.epoch == raised
    three.run(2)
    assert three.fleet.store.inspect().epoch == raised
    assert three.flags == [content(2)] * 3


def test_a_fetch_under_way_while_the_epoch_rises_is_kept_and_soon_proved(three: ThreeWorkers) -> None:
    """A holder raises the epoch of a store that lost it between a grant and its publication: nothing is lost or old."""
    codec = three.members[0].config.codec
    assert three.fleet.store.clear(codec.stamps.of_epoch(1)) == 1
    three.run(2)
    leader = next(member for member in three.members if member.worker.know.view(FLEET).leads)
    others = [member for member in three.members if member is not leader]
    newcomer = AttachedProcess(three.fleet)
    three.writer.state(epoch=0, epoch_stamp="", meta=None, owner="", lease_until=0)
    three.fleet.upstream.serves = content(2)
    lifted: list[int] = []

    def lift(verb: str) -> None:
        if verb == "publish" and not lifted:
            lifted.append(three.fleet.store.inspect().epoch)
            others[0].poll()
            lifted.append(three.fleet.store.inspect().epoch)

    newcomer.link.before = lift
    newcomer.poll()
    assert lifted == [0, 1]
    stored, fetched = three.fleet.stored, newcomer.worker.know.held
    assert stored is not None
    assert fetched is not None
    assert (stored.epoch, stored.version) == (1, fetched.meta.version)
    assert newcomer.worker.definitions() == content(2)
    three.members.append(newcomer)
    three.run(2)
    assert three.flags == [content(2)] * 4
    for member in three.members:
        held = member.worker.know.held
        assert held is not None
        assert (held.meta.epoch, held.unproved) == (1, False)


def test_an_unchanged_poll_verifies_nothing(three: ThreeWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither makes nor reads a stamp, whatever the epoch."""
    three.fleet.store.clear(three.members[0].config.codec.stamps.of_epoch(1))
    three.run(2)
    calls: list[str] = []

    def count(*_: object) -> None:
        calls.append("stamp")

    before = three.fleet.upstream.requests
    for member in three.members:
        member.poll()
    with monkeypatch.context() as patched:
        patched.setattr(Stamps, "_read", count)
        patched.setattr(Stamps, "_make", count)
        for _ in range(5):
            for member in three.members:
                member.poll()
    assert three.fleet.upstream.requests == before
    assert not calls
