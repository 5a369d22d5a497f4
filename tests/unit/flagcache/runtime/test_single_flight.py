"""One poll of the stores at a time in a process: which threads wait for it, and which of them then make their own."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from flagcache.runtime.single_flight import SingleFlight

LONGEST = 5.0


@contextmanager
def under_way(polls: SingleFlight, *, full: bool) -> Generator[threading.Event]:
    """A poll on a thread of its own, which ends when the event is set, at the latest with the block."""
    end, began = threading.Event(), threading.Event()

    def ask() -> None:
        began.set()
        end.wait(LONGEST)

    def run() -> None:
        polls.run(ask, full=full, longest=LONGEST, newer=False)

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(LONGEST)
    try:
        yield end
    finally:
        end.set()
        thread.join(LONGEST)


def ask_meanwhile(polls: SingleFlight, end: threading.Event, *, full: bool, newer: bool = False) -> int:
    """Poll on another thread while one is under way, then let that one end; returns how often this thread asked."""
    asked: list[None] = []
    waits = threading.Thread(
        target=lambda: polls.run(lambda: asked.append(None), full=full, longest=LONGEST, newer=newer)
    )
    waits.start()
    waits.join(0.05)
    assert waits.is_alive()
    assert not asked
    end.set()
    waits.join(LONGEST)
    assert not waits.is_alive()
    return len(asked)


@pytest.mark.parametrize(
    ("first_full", "full", "own"),
    [(False, True, 1), (False, False, 0), (True, True, 0), (True, False, 0)],
    ids=["may contend", "may not either", "the first one contended", "less than the first"],
)
def test_a_poll_that_waited_for_one_without_a_grant_makes_its_own(first_full: bool, full: bool, own: int) -> None:
    """After a poll that could not take a grant, a poll that can still asks; no other does."""
    polls = SingleFlight()
    with under_way(polls, full=first_full) as end:
        assert ask_meanwhile(polls, end, full=full) == own


def test_a_poll_that_follows_a_notice_makes_its_own() -> None:
    """What was under way may be older than the notice."""
    polls = SingleFlight()
    with under_way(polls, full=True) as end:
        assert ask_meanwhile(polls, end, full=False, newer=True) == 1


def test_a_poll_waits_no_longer_than_it_may() -> None:
    """If the poll under way does not end in time, the caller continues without one of its own."""
    polls = SingleFlight()
    with under_way(polls, full=False):
        asked: list[None] = []
        polls.run(lambda: asked.append(None), full=True, longest=0.05, newer=False)
        assert not asked


def test_nothing_is_asked_once_it_is_closed() -> None:
    """A process that has left takes no lease again; a poll under way ends as it would have."""
    polls = SingleFlight()
    with under_way(polls, full=True) as end:
        polls.close()
        asked: list[None] = []
        polls.run(lambda: asked.append(None), full=True, longest=LONGEST, newer=True)
        assert not asked
        threading.Timer(0.05, end.set).start()
        polls.wait_for_end(LONGEST)
        assert end.is_set()
