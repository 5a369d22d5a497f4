"""Fetched definitions have the time of their grant: late ones are refused, and unchanged ones confirm."""

from __future__ import annotations

from flagcache.events import LateFetchRefused
from tests.support.in_process_fleet import FLEET, Fleet, content, in_thread


def test_a_late_fetch_is_refused_and_dropped(fleet: Fleet) -> None:
    """What a frozen process brings after others moved on neither replaces theirs nor is kept."""
    late, other = fleet.process(), fleet.process()
    late.poll()
    other.poll()
    fleet.next_interval()
    assert late.worker.should_fetch() is True  # and it freezes in the middle of its fetch
    fleet.clock.advance(fleet.settings.lease_for() + 1)
    fleet.upstream.serves = content(3)
    assert other.poll() is True
    late.worker.received(content(2))
    assert [event.store for event in late.events(LateFetchRefused)] == [FLEET]
    assert late.worker.definitions() == content(1)
    late.poll()
    other.poll()
    assert late.flags == other.flags == content(3)


def test_a_late_fetch_does_not_replace_what_was_confirmed_meanwhile(fleet: Fleet) -> None:
    """The vendor went back to the definitions of before: a 200 with the stored version refuses the late one too."""
    late, other = fleet.process(), fleet.process()
    late.poll()
    other.poll()
    fleet.next_interval()
    assert late.worker.should_fetch() is True
    fleet.clock.advance(fleet.settings.lease_for() + 1)
    assert other.poll() is True  # the first fetch of this process: a 200 with what is stored
    late.worker.received(content(2))
    assert late.events(LateFetchRefused)
    late.poll()
    assert late.flags == content(1)


def test_a_late_fetch_is_refused_while_another_is_under_way(fleet: Fleet) -> None:
    """A later grant of an SDK is enough: its fetch may find the stored definitions unchanged without a report.

    The store does not take it. This process keeps using it, because it is newer than what is stored, until another
    fetch is answered.
    """
    late, other = fleet.process(), fleet.process()
    late.poll()
    other.poll()
    before = fleet.stored
    fleet.next_interval()
    assert late.worker.should_fetch() is True
    fleet.clock.advance(fleet.settings.lease_for() + 1)
    assert other.worker.should_fetch() is True
    late.worker.received(content(2))
    assert [event.kept for event in late.events(LateFetchRefused)] == [True]
    assert late.worker.definitions() == content(2)
    assert fleet.stored == before
    late.worker.should_fetch()
    assert late.worker.definitions() == content(2)
    assert fleet.stored == before
    other.worker.received(content(3))
    late.worker.should_fetch()
    assert late.worker.definitions() == content(3)
    assert len(late.events(LateFetchRefused)) == 1


def test_what_stays_unsettled_is_let_go_of(fleet: Fleet) -> None:
    """If no fetch is answered for a challenge time, what the store has counts: the others may be right."""
    late, other = fleet.process(), fleet.process()
    late.poll()
    other.poll()
    fleet.next_interval()
    assert late.worker.should_fetch() is True
    fleet.clock.advance(fleet.settings.lease_for() + 1)
    assert other.worker.should_fetch() is True
    late.worker.received(content(2))
    fleet.clock.advance(fleet.settings.challenge_after)
    late.worker.should_fetch()
    assert late.worker.definitions() == content(2)
    fleet.clock.advance(1)
    late.worker.should_fetch()
    assert late.worker.definitions() == content(1)


def test_a_200_with_the_stored_version_is_a_confirmation(fleet: Fleet) -> None:
    """The payload is not sent again; the confirmed age moves to the grant's time, the changed one stays."""
    first, second = fleet.process(), fleet.process()
    first.poll()
    second.poll()
    before = fleet.stored
    fleet.clock.advance(fleet.settings.lease_for() + 1)
    assert second.poll() is True
    after = fleet.stored
    assert second.link.calls[-1] == "confirm"
    assert before is not None
    assert after is not None
    assert after.changed_at == before.changed_at
    assert after.confirmed_at == before.confirmed_at + round((fleet.settings.lease_for() + 1) * 1000)


def test_a_leader_confirms_what_it_published_itself(fleet: Fleet) -> None:
    """A 200 with the previous content sends no payload to the worker that has it, and the content keeps its age."""
    leader = fleet.process()
    leader.poll()
    before = fleet.stored
    fleet.next_interval()
    assert leader.worker.should_fetch() is True
    leader.worker.received(content(1))
    assert leader.link.calls[-1] == "confirm"
    assert before is not None
    assert fleet.stored is not None
    assert fleet.stored.changed_at == before.changed_at
    assert leader.worker.know.held is not None
    assert leader.worker.know.held.meta == fleet.stored


def test_definitions_are_stamped_with_their_grant(fleet: Fleet) -> None:
    """`as_of` is when the fetch was granted, never when its answer was read."""
    process = fleet.process()
    assert process.worker.should_fetch() is True
    granted = fleet.store_clock()
    fleet.clock.advance(7)
    process.worker.received(content(1))
    stored = fleet.stored
    assert stored is not None
    assert (stored.as_of, stored.confirmed_at, stored.writer) == (granted, granted, "test/1")


def test_what_comes_without_a_grant_does_not_replace_what_is_newer(fleet: Fleet) -> None:
    """A fetch without a grant counts as old as its thread's last poll."""
    follower, leader = fleet.process(), fleet.process()
    leader.poll()
    follower.poll()
    fleet.upstream.serves = content(3)
    fleet.next_interval()
    leader.poll()
    follower.worker.received(content(2))
    assert follower.events(LateFetchRefused)
    follower.poll()
    assert follower.flags == content(3)


def test_what_comes_unasked_fills_an_empty_store_only(fleet: Fleet) -> None:
    """A thread that never asked may have begun its fetch long ago."""
    unasked = fleet.process()
    unasked.worker.received(content(1))
    assert unasked.worker.definitions() == content(1)
    unasked.poll()
    assert fleet.stored is not None
    other = fleet.process()
    other.poll()
    in_thread(lambda: other.worker.received(content(0)))
    assert other.worker.definitions() == content(1)
