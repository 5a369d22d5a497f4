"""What an attacker without a key can do with a store's times: old definitions never pass for new or fresh."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from flagcache.core.ageing import settled
from flagcache.encoding.codec import Codec
from flagcache.encoding.protection import Protection, Sealed, Signed
from flagcache.errors import StoreError
from flagcache.stores.base import Meta, Published, Scope
from flagcache.stores.rules.state import Outcome
from flagcache.vendor import Definitions, Refused
from tests.support.in_process_attacker import HOUR, AttachedProcess, RefusingUpstream, make_fleet
from tests.support.in_process_fleet import FLEET, Fleet, content

KEY = "0123456789abcdef" * 2
YEAR = 365 * 24 * HOUR
STALE_AFTER = 12
"""Refresh intervals."""


class AttackedWorkers:
    """Three attached workers that have gone from revision 1 to revision 2, and an attacker who has kept revision 1."""

    def __init__(self, protection: Protection) -> None:
        self.fleet, self.writer = make_fleet()
        self.fleet.protection = protection
        self.members = [AttachedProcess(self.fleet) for _ in range(3)]
        self.run(2)
        self.old = self.writer.keep()
        self.fleet.upstream.serves = content(2)
        self.run(3)
        assert [member.flags for member in self.members] == [content(2)] * 3
        assert all(member.fresh for member in self.members)
        self.requests = self.fleet.upstream.requests

    def run(self, intervals: int, attack: Callable[[AttackedWorkers], None] | None = None) -> list[str]:
        """Let all poll every third of an interval, after the attack each; return what was wrong meanwhile."""
        wrong: list[str] = []
        for _ in range(intervals * 3):
            self.fleet.clock.advance(self.fleet.settings.refresh_interval / 3)
            for member in self.members:
                if attack is not None:
                    attack(self)
                had = member.flags
                member.poll()
                if _revision_of(member.flags) < _revision_of(had):
                    wrong.append(f"back to {member.flags}")
                if not _is_honest(self.fleet, member):
                    wrong.append("an age that is too low")
        return wrong

    def join(self) -> AttachedProcess:
        """One more worker."""
        self.members.append(AttachedProcess(self.fleet))
        return self.members[-1]

    def all_hold(self, revision: int) -> bool:
        """Whether all have it, and say that it is fresh."""
        return all(member.flags == content(revision) and member.fresh for member in self.members)

    @property
    def requests_since(self) -> int:
        """How often the vendor was asked since all had revision 2."""
        return self.fleet.upstream.requests - self.requests


def _revision_of(flags: Definitions | None) -> int:
    found = cast("list[int]", flags["flags"]) if flags else []
    return found[0] if found else 0


def _is_honest(fleet: Fleet, member: AttachedProcess) -> bool:
    """Return whether its definitions are no younger than the vendor's last answer about them."""
    held = member.worker.know.held
    if held is None:
        return True
    return held.born <= max(at for at, what in fleet.upstream.served if what == held.definitions)


@pytest.fixture(params=[Signed, Sealed], ids=["signed", "sealed"])
def attacked(request: pytest.FixtureRequest) -> AttackedWorkers:
    """The fleet, with a key."""
    kind: Callable[[str], Protection] = request.param
    return AttackedWorkers(kind(KEY))


def _roll_back(attacked: AttackedWorkers) -> None:
    attacked.writer.roll_back(attacked.old)


def _roll_back_in_the_future(attacked: AttackedWorkers) -> None:
    ahead = attacked.fleet.store_clock() + YEAR
    attacked.writer.put_back(attacked.old, as_of=ahead, confirmed_at=ahead)


def _put_back_as_it_was(attacked: AttackedWorkers) -> None:
    attacked.writer.put_back(attacked.old)


def _freeze(attacked: AttackedWorkers) -> None:
    now = attacked.fleet.store_clock()
    attacked.writer.meta(as_of=now, confirmed_at=now)
    attacked.writer.freeze()


def _claim_that_all_tries_failed(attacked: AttackedWorkers) -> None:
    """No process leads, and the store claims that no try is left in this interval."""
    _freeze(attacked)
    attacked.writer.state(outcome=Outcome.FAILED, failures=3, holder="ghost")


def _strip_the_stamp(attacked: AttackedWorkers) -> None:
    attacked.writer.meta(stamp="", as_of=attacked.fleet.store_clock())


def _take_another_stamp(attacked: AttackedWorkers) -> None:
    assert attacked.old[0].meta is not None
    attacked.writer.meta(stamp=attacked.old[0].meta.stamp, as_of=attacked.fleet.store_clock())


def _lower_the_order(attacked: AttackedWorkers) -> None:
    attacked.writer.meta(as_of=0)


def _raise_the_order(attacked: AttackedWorkers) -> None:
    attacked.writer.state(highest=attacked.fleet.store_clock() + 9 * YEAR)


def _raise_the_fence(attacked: AttackedWorkers) -> None:
    attacked.writer.state(fence=attacked.fleet.store_clock() + 9 * YEAR)


def _claim_a_grant(attacked: AttackedWorkers) -> None:
    ahead = attacked.fleet.store_clock() + 9 * YEAR
    attacked.writer.state(grant=ahead, fence=ahead - 1, highest=ahead)


def _empty(attacked: AttackedWorkers) -> None:
    attacked.writer.state(meta=None)


def _note_a_quota(attacked: AttackedWorkers) -> None:
    attacked.writer.state(backoff_status=402, backoff_until=attacked.fleet.store_clock() + HOUR, backoff_length=HOUR)


def _spoil_the_epoch(attacked: AttackedWorkers) -> None:
    meta = attacked.writer.keep()[0].meta
    attacked.writer.state(epoch=2**53 - 1, meta=meta and meta._replace(epoch=2**53 - 1))


def _raise_the_epoch(attacked: AttackedWorkers) -> None:
    """Raise the epoch as `clear` does, without the signature."""
    epoch = attacked.writer.keep()[0].epoch + 1
    attacked.writer.state(epoch=epoch, meta=None)


def _put_back_under_another_epoch(attacked: AttackedWorkers) -> None:
    attacked.writer.state(epoch=1_000_000)
    attacked.writer.put_back(attacked.old, epoch=1_000_000, as_of=attacked.fleet.store_clock())


ATTACKS: list[Callable[[AttackedWorkers], None]] = [
    *(_roll_back, _roll_back_in_the_future, _put_back_as_it_was, _freeze, _strip_the_stamp, _take_another_stamp),
    _claim_that_all_tries_failed,
    *(_spoil_the_epoch, _raise_the_epoch, _put_back_under_another_epoch),
    *(_lower_the_order, _raise_the_order, _raise_the_fence, _claim_a_grant, _empty, _note_a_quota),
]
each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__.strip("_"))


@each_attack
def test_one_write_does_nothing_that_lasts(
    attacked: AttackedWorkers, attack: Callable[[AttackedWorkers], None]
) -> None:
    """No flag goes back or gets lost, no age is too low, and a change arrives within three intervals."""
    attacked.fleet.upstream.serves = content(3)
    attack(attacked)
    assert attacked.run(3) == []
    assert attacked.all_hold(3)
    assert attacked.requests_since <= 2 * 3


def test_a_change_that_is_called_old_is_taken_at_the_next_poll(attacked: AttackedWorkers) -> None:
    """Before each poll the stored order is lowered, so that the store would send nothing: the signed time counts."""
    attacked.fleet.upstream.serves = content(3)
    assert attacked.run(3, _lower_the_order) == []
    assert attacked.all_hold(3)
    asked = sum(len(member.link.asks) for member in attacked.members)
    assert attacked.run(10, _lower_the_order) == []
    assert sum(len(member.link.asks) for member in attacked.members) - asked == 3 * 10 * len(attacked.members)


@each_attack
def test_writing_all_the_time_costs_no_flag(
    attacked: AttackedWorkers, attack: Callable[[AttackedWorkers], None]
) -> None:
    """Before each poll: no flag goes back or gets lost, no age is too low; requests are bounded, and it heals."""
    assert attacked.run(25, attack) == []
    attacked.fleet.upstream.serves = content(3)
    assert attacked.run(STALE_AFTER + 3, attack) == []
    assert [member.flags for member in attacked.members] == [content(3)] * 3
    assert attacked.requests_since <= 4 * (25 + STALE_AFTER + 3)
    attacked.fleet.upstream.serves = content(4)
    assert attacked.run(3) == []
    assert attacked.all_hold(4)


def test_a_failure_of_long_ago_excuses_no_store(attacked: AttackedWorkers) -> None:
    """Each worker failed once. Under a freeze before each poll all work without the store as if none had failed."""
    upstream = attacked.fleet.upstream
    assert isinstance(upstream, RefusingUpstream)
    upstream.refuses = Refused("no answer", Scope.MINE)
    attacked.run(3)
    assert all(member.worker.know.failures for member in attacked.members)
    upstream.refuses, upstream.serves = None, content(3)
    assert attacked.run(STALE_AFTER + 3, _claim_that_all_tries_failed) == []
    assert [member.flags for member in attacked.members] == [content(3)] * 3


@pytest.mark.parametrize("spoil", ["order", "fence"])
def test_what_a_process_fetched_is_not_taken_from_it_by_a_forged_order(attacked: AttackedWorkers, spoil: str) -> None:
    """Before each publication the store is made to seem newer, or a later grant open: what was fetched is used."""
    fleet, writer = attacked.fleet, attacked.writer

    def forge(verb: str) -> None:
        if verb not in ("publish", "confirm"):
            return
        ahead = fleet.store_clock() + YEAR
        if spoil == "order" and writer.keep()[0].meta is not None:
            writer.meta(as_of=ahead)
        elif spoil == "fence":
            writer.state(grant=ahead + 1, fence=ahead, highest=ahead + 1, reporting=0)

    for member in attacked.members:
        member.link.before = forge
    fleet.upstream.serves = content(3)
    assert attacked.run(2 * STALE_AFTER) == []
    assert [member.flags for member in attacked.members] == [content(3)] * 3


def test_what_a_process_fetched_is_kept_if_the_store_fails_as_it_is_looked_at(attacked: AttackedWorkers) -> None:
    """It refuses the definitions as late by a forged order, and can't say whether they are: they are used."""

    def forge_and_fail(verb: str) -> None:
        if verb in ("publish", "confirm"):
            attacked.writer.meta(as_of=attacked.fleet.store_clock() + YEAR)
        elif verb == "inspect":
            raise StoreError("it is away")

    for member in attacked.members:
        member.link.before = forge_and_fail
    attacked.fleet.upstream.serves = content(3)
    attacked.run(1)
    assert content(3) in [member.flags for member in attacked.members]


def test_what_stays_unsettled_is_kept_until_a_signature_says_better(attacked: AttackedWorkers) -> None:
    """However long a forged fence keeps it out of the store: what the store has is older by signature."""
    fleet, member = attacked.fleet, attacked.members[0]
    held = member.worker.know.held
    assert held is not None
    unsettled = held._replace(accepted=False, unsettled=fleet.clock() - 1e6)
    know = settled(member.worker.know._replace(held=unsettled), 1.0, fleet.clock())
    assert know.held == unsettled


def test_what_was_fetched_while_a_store_was_away_is_kept_when_it_returns_forged(attacked: AttackedWorkers) -> None:
    """It refuses what it is given, and has old definitions: no flag goes back."""

    def away(verb: str) -> None:
        if verb in ("publish", "confirm"):
            raise StoreError("it is away")

    def forge(verb: str) -> None:
        if verb in ("publish", "confirm"):
            attacked.writer.put_back(attacked.old, as_of=attacked.fleet.store_clock() + YEAR)

    for member in attacked.members:
        member.link.before = away
    attacked.fleet.upstream.serves = content(3)
    assert attacked.run(2) == []
    for member in attacked.members:
        member.link.before = forge
    attacked.writer.meta(as_of=1)
    assert content(3) in [member.flags for member in attacked.members]
    assert attacked.run(4, lambda attacked: attacked.writer.meta(as_of=1)) == []


def test_a_late_fetch_is_refused_by_signature(attacked: AttackedWorkers) -> None:
    """While it was under way another worker published what was granted later: that is used, and this never."""
    fleet, codec = attacked.fleet, attacked.members[0].config.codec
    newer, late = content(4), content(3)

    def overtake(verb: str) -> None:
        if verb not in ("publish", "confirm") or fleet.upstream.serves == newer:
            return
        fleet.upstream.serves = newer
        fleet.clock.advance(1)
        fleet.upstream.served.append((fleet.clock(), newer))
        at, version = fleet.store_clock(), codec.names(newer)[0]
        meta = Meta(version, 0, at + 1, changed_at=at, confirmed_at=at, writer=fleet.vendor.writer)
        assert fleet.store.publish("another", codec.write(newer, meta), fresh=False, lease=1) is Published.STORED

    for member in attacked.members:
        member.link.before = overtake
    fleet.upstream.serves = late
    seen: list[object] = []
    assert attacked.run(3, lambda _: seen.extend(member.flags for member in attacked.members)) == []
    assert late not in seen
    assert attacked.all_hold(4)


def test_a_newcomer_waits_for_no_store_that_is_kept_empty(attacked: AttackedWorkers) -> None:
    """Emptied before each poll, with one forged leader after another: it fetches by itself, within a bounded time."""

    def empty(attacked: AttackedWorkers) -> None:
        attacked.writer.freeze()
        attacked.writer.state(meta=None, owner=f"ghost at {attacked.fleet.clock()}", granted=(0, 0, 0))
        attacked.writer.state(granted=(attacked.fleet.store_clock(),) * 3)

    attacked.run(STALE_AFTER, empty)
    newcomer = attacked.join()
    attacked.run(1, empty)
    assert newcomer.flags in (None, {"flags": []})
    attacked.run(STALE_AFTER + 2, empty)
    assert newcomer.flags == content(2)


def test_tries_that_failed_keep_a_fleet_together(attacked: AttackedWorkers) -> None:
    """While PostHog can be reached by none, however long, the store is not left aside: three tries an interval."""
    upstream = attacked.fleet.upstream
    assert isinstance(upstream, RefusingUpstream)
    newcomers = [attacked.join() for _ in range(60)]
    attacked.run(1)
    upstream.refuses, before = Refused("no answer", Scope.MINE), upstream.requests
    attacked.run(2 * STALE_AFTER)
    assert upstream.requests - before <= 3 * (2 * STALE_AFTER + 1)
    assert all(member.worker.know.held is not None for member in newcomers)


def test_what_is_passed_over_is_not_sent_at_each_poll(
    attacked: AttackedWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a rollback before each poll a worker is sent the old payload once, and not again while it is the same."""
    reads: list[str] = []
    read = Codec.read

    def count(self: Codec, version: str, payload: bytes) -> Definitions:
        reads.append(version)
        return read(self, version, payload)

    monkeypatch.setattr(Codec, "read", count)
    assert attacked.run(10, _roll_back) == []
    assert len(reads) <= 3


def test_what_was_passed_over_is_sent_again_once_it_is_served_again(attacked: AttackedWorkers) -> None:
    """After a rollback that no worker took, PostHog goes back to the same definitions: all have them soon."""
    assert attacked.run(1, _roll_back) == []
    attacked.fleet.upstream.serves = content(1)
    attacked.run(3)
    assert attacked.all_hold(1)


def test_a_store_that_was_away_for_long_is_repaired_by_its_first_answer(attacked: AttackedWorkers) -> None:
    """It could prove nothing while it was away: a holder of newer definitions brings them, also without a grant."""
    member = attacked.members[0]
    for each in attacked.members:
        each.link.cut = True
    attacked.fleet.upstream.serves = content(3)
    assert attacked.run(2 * STALE_AFTER) == []
    held = member.worker.know.held
    assert held is not None
    assert held.definitions == content(3)
    member.link.cut = False
    for _ in range(9):
        attacked.fleet.clock.advance(attacked.fleet.settings.refresh_interval / 3)
        attacked.writer.freeze()
        member.poll()
        if member.worker.know.view(FLEET).replied_at == attacked.fleet.clock():
            break
    assert attacked.fleet.stored is not None
    assert attacked.fleet.stored.version == held.meta.version


@pytest.mark.parametrize("how", ["unsigned", "long ago"])
def test_a_newcomer_takes_what_is_not_proved_for_stale(attacked: AttackedWorkers, how: str) -> None:
    """A worker that holds nothing starts with a replayed envelope as with a stale one, and soon has the new one."""
    if how == "long ago":
        assert attacked.run(STALE_AFTER) == []
    _roll_back(attacked)
    if how == "unsigned":
        attacked.writer.meta(stamp="")
    newcomer = attacked.join()
    newcomer.poll()
    assert newcomer.flags == content(1)
    assert not newcomer.fresh
    assert attacked.run(2) == []
    assert attacked.all_hold(2)
