"""Workers of a release that signs no times, as 0.1 is, beside those that do: one fleet, which soon is signed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from flagcache.core.schedule import ClientActivity, next_duty
from flagcache.encoding.protection import Signed
from flagcache.encoding.stamps import StampKey
from flagcache.events import LeadershipTaken
from flagcache.settings import Settings
from tests.support.in_process_attacker import AttachedProcess, make_fleet
from tests.support.in_process_fleet import FLEET, content

KEY = "0123456789abcdef" * 2


class Unstamped(Signed):
    """As 0.1 signs: the same names in the store, and no stamps."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.stamp_keys: Sequence[StampKey] = ()


class MixedFleet:
    """A fleet of both releases."""

    def __init__(self) -> None:
        self.fleet, self.writer = make_fleet()
        self.members: list[AttachedProcess] = []

    def join(self, *, new: bool, reader: bool = False) -> AttachedProcess:
        """One more process."""
        self.fleet.protection = Signed(KEY) if new else Unstamped(KEY)
        before = self.fleet.settings
        if reader:
            self.fleet.settings = Settings(refresh_interval=before.refresh_interval, role="reader")
        self.members.append(AttachedProcess(self.fleet))
        self.fleet.settings = before
        return self.members[-1]

    def run(self, intervals: int) -> None:
        """Let all poll every third of an interval; none goes back or loses its flags."""
        for _ in range(3 * intervals):
            self.fleet.clock.advance(self.fleet.settings.refresh_interval / 3)
            for member in self.members:
                had = member.flags
                member.poll()
                assert member.flags is not None
                assert had is None or str(member.flags) >= str(had)

    def serve(self, revision: int, within: int) -> None:
        """PostHog changes; all have it this many intervals later."""
        self.fleet.upstream.serves = content(revision)
        self.run(within)
        assert [member.flags for member in self.members] == [content(revision)] * len(self.members)

    @property
    def is_signed(self) -> bool:
        """Whether what is stored has a stamp of its own times."""
        stored = self.fleet.stored
        assert stored is not None
        codec = next(member.config.codec for member in self.members if member.config.codec.stamps.signs)
        return codec.believed(stored) == stored

    def leaders(self, members: Sequence[AttachedProcess]) -> list[AttachedProcess]:
        """Which of these lead."""
        leader = self.fleet.store.inspect().leader
        return [member for member in members if member.worker.me == leader]


@pytest.fixture
def mixed() -> MixedFleet:
    """No process has joined yet."""
    return MixedFleet()


def test_a_newcomer_soon_leads_those_of_before(mixed: MixedFleet) -> None:
    """A worker that signs takes one turn, then leads, and all is signed; those of before take what it writes."""
    olds = [mixed.join(new=False) for _ in range(2)]
    mixed.run(3)
    new = mixed.join(new=True)
    mixed.run(2)
    assert mixed.leaders([new])
    assert mixed.is_signed
    assert all(member.fresh for member in mixed.members)
    before = mixed.fleet.upstream.requests
    mixed.run(20)
    assert mixed.fleet.upstream.requests - before <= 21
    assert mixed.leaders([new])
    assert len(new.events(LeadershipTaken)) == 1
    assert sum(len(old.events(LeadershipTaken)) for old in olds) == 1
    mixed.serve(2, within=2)


def test_one_of_before_that_joins_changes_nothing(mixed: MixedFleet) -> None:
    """An upgrade that is under way, or taken back for one process: those who sign continue to lead."""
    new = mixed.join(new=True)
    mixed.run(2)
    mixed.join(new=False)
    mixed.run(20)
    assert mixed.leaders([new])
    assert mixed.is_signed
    mixed.serve(2, within=2)


def test_one_of_before_leads_only_until_one_that_signs_has_its_turn(mixed: MixedFleet) -> None:
    """When the leader exits, the quickest worker leads; soon a worker that signs does."""
    old, first, second = mixed.join(new=False), mixed.join(new=True), mixed.join(new=True)
    mixed.run(3)
    for new in mixed.leaders([first, second]):
        mixed.members.remove(new)
        new.worker.shutdown()
    old.poll()
    mixed.serve(2, within=3)
    assert mixed.is_signed
    assert not mixed.leaders([old])
    assert all(member.fresh for member in mixed.members)


def test_polls_just_after_the_leaders_fetches_end_in_a_turn(mixed: MixedFleet) -> None:
    """A store lets it take a turn half an interval later; its background polls then."""
    old, new = mixed.join(new=False), mixed.join(new=True)
    clock, interval = mixed.fleet.clock, mixed.fleet.settings.refresh_interval
    for _ in range(4):
        clock.advance(interval - 0.1)
        old.poll()
        clock.advance(0.1)
        new.poll()
        assert mixed.leaders([old])
    activity = ClientActivity(interval, clock(), able=True, longest_fetch=1.0, interval=interval)
    due = next_duty(new.worker.know, new.worker.know.view(FLEET), activity, clock())
    assert interval / 2 - 0.2 < due.contend_at - clock() < interval / 2
    clock.advance(due.contend_at - clock())
    new.poll()
    assert mixed.leaders([new])
    assert mixed.is_signed


def test_what_only_those_of_before_write_is_used_and_of_unknown_age(mixed: MixedFleet) -> None:
    """A reader of the new release beside workers of before has every change, and calls it stale."""
    mixed.join(new=False)
    mixed.run(1)
    reader = mixed.join(new=True, reader=True)
    for revision in (2, 3):
        mixed.serve(revision, within=2)
        assert not reader.fresh


def test_a_change_that_is_not_signed_waits_for_a_turn(mixed: MixedFleet) -> None:
    """A worker that holds signed definitions takes no unsigned ones: it has its turn, and brings the change itself."""
    old, new = mixed.join(new=False), mixed.join(new=True)
    mixed.run(3)
    new.link.cut = True
    mixed.fleet.upstream.serves = content(2)
    mixed.members.remove(new)
    mixed.run(3)
    assert old.flags == content(2)
    new.link.cut = False
    mixed.members.append(new)
    mixed.run(2)
    assert new.flags == content(2)
    assert mixed.is_signed
