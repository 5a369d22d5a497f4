"""First loads with stored definitions in protocol mode, and what an ending process leaves to others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from flagcache.encoding.payload import digest, encode
from flagcache.settings import Settings
from flagcache.stores.base import Ask
from flagcache.worker.cold_start import ColdStart
from tests.support.in_process_fleet import Fleet, content, in_thread
from tests.support.servers import until
from tests.unit.flagcache.worker.test_cold_start import RealClock


def stale_fleet(age: float, *, wait: float = 20.0) -> Fleet:
    """A fleet whose store holds revision 1, confirmed this many seconds ago; the vendor serves revision 2."""
    fleet = Fleet(Settings(refresh_interval=30, cold_start_wait=wait))
    fleet.clock = RealClock()
    fleet.plant(encode(content(1), digest(content(1))), version=digest(content(1)), age=age)
    fleet.upstream.serves = content(2)
    return fleet


def test_a_first_load_fetches_in_place_of_old_definitions() -> None:
    """The thread that is granted the fetch is sent to it."""
    process = stale_fleet(46).process()
    assert process.poll() is True
    assert process.flags == content(2)


def test_after_a_failed_fetch_by_its_sdk_a_process_takes_the_old_definitions() -> None:
    """At its next evaluation, in which the SDK loads again, and without a wait."""
    fleet = stale_fleet(46)
    fleet.upstream.down = True
    process = fleet.process()
    began = time.monotonic()
    assert process.poll() is True
    assert process.poll() is False
    assert process.flags == content(1)
    assert time.monotonic() - began < 2


def test_a_first_load_starts_with_young_definitions() -> None:
    """And leaves its grant for its next poll, which fetches."""
    process = stale_fleet(44).process()
    assert process.poll() is False
    assert process.flags == content(1)
    assert process.poll() is True


def test_a_process_that_ends_hands_the_grant_over_that_it_left() -> None:
    """The next one is granted a fetch at once, and not an interval later."""
    fleet = stale_fleet(44)
    short, following = fleet.process(), fleet.process()
    short.poll()
    short.worker.leave()
    fleet.clock.advance(2)
    assert following.poll() is True
    assert following.flags == content(2)


def test_a_first_load_waits_for_the_fetch_of_another() -> None:
    """It begins with what that brings."""
    fleet = stale_fleet(100)
    leader, follower = fleet.process(), fleet.process()
    assert leader.worker.should_fetch()
    loading = threading.Thread(target=follower.poll)
    loading.start()
    until(lambda: len(follower.link.calls) >= 3, what="it to wait")
    leader.fetch()
    loading.join(10)
    assert follower.flags == content(2)
    assert fleet.upstream.requests == 1


def test_the_failure_of_another_ends_the_wait() -> None:
    """Then it starts with what is stored, long before the wait would be over."""
    fleet = stale_fleet(100)
    hour = 3_600_000
    ask = Ask("another", interval=hour, lease=hour, cold_lease=hour, challenge=hour)
    grant = fleet.store.poll(ask).grant
    assert grant is not None
    process = fleet.process()
    loading = threading.Thread(target=process.poll)
    loading.start()
    until(lambda: len(process.link.calls) >= 3, what="it to wait")
    fleet.store.release("another", idle=True)
    loading.join(5)
    assert process.flags == content(1)


def test_the_end_of_the_wait_costs_one_poll_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that notices the end polls; the other waiting threads use its reply."""
    fleet = stale_fleet(100)
    hour = 3_600_000
    assert fleet.store.poll(Ask("another", interval=hour, lease=hour, cold_lease=hour, challenge=hour)).grant
    process, threads, waiting, ended_at = fleet.process(), 6, [0], [0]
    wait = ColdStart.wait

    def counted(self: ColdStart, condition: Callable[[], bool], longest: float, clock: Callable[[], float]) -> bool:
        waiting[0] += 1
        return wait(self, condition, longest, clock)

    def end(verb: str) -> None:
        if verb == "poll" and waiting[0] == threads and not ended_at[0]:
            ended_at[0] = len(process.link.calls)
            fleet.store.release("another", idle=True)

    monkeypatch.setattr(ColdStart, "wait", counted)
    process.link.before = end
    loads = [threading.Thread(target=process.poll) for _ in range(threads)]
    for load in loads:
        load.start()
    for load in loads:
        load.join(10)
    assert process.flags == content(1)
    assert len(process.link.calls) == ended_at[0] > 0


def test_the_wait_for_newer_definitions_is_bounded() -> None:
    """The wait lasts at most `cold_start_wait` and is one: a later asker is answered at once."""
    fleet = stale_fleet(100, wait=0.4)
    fleet.settings = Settings(refresh_interval=30, cold_start_wait=0.4)
    fleet.occupy()
    process = fleet.process()
    began = time.monotonic()
    process.poll()
    process.poll()
    assert in_thread(process.worker.definitions) is not None
    assert time.monotonic() - began < 3
    assert process.flags == content(1)


def test_a_process_that_has_started_never_waits() -> None:
    """Its polls never wait, however old what it holds has become."""
    fleet = stale_fleet(1)
    process = fleet.process()
    process.poll()
    fleet.clock.advance(1000)
    fleet.occupy()
    began = time.monotonic()
    process.poll()
    assert time.monotonic() - began < 1


def test_a_reader_does_not_wait() -> None:
    """It takes what the store has, in one question."""
    fleet = stale_fleet(1000)
    fleet.occupy()
    fleet.settings = Settings(refresh_interval=30, role="reader")
    reader = fleet.process()
    began = time.monotonic()
    reader.poll()
    assert time.monotonic() - began < 1
    assert reader.flags == content(1)
