"""A fleet on an empty store: one fetches, the others wait, and every wait ends."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from flagcache.encoding.payload import digest, encode
from flagcache.events import ColdStartExpired, ColdStartRecovered
from flagcache.settings import Settings
from tests.support.in_process_fleet import Clock, Fleet, content, in_thread
from tests.support.servers import until


class RealClock(Clock):
    """Time as it passes, and more when a test says so."""

    def __call__(self) -> float:
        """The present."""
        return self.now + time.monotonic()


def running_fleet(wait: float) -> Fleet:
    """A fleet in which time passes by itself."""
    fleet = Fleet(Settings(refresh_interval=30, cold_start_wait=wait))
    fleet.clock = RealClock()
    return fleet


def test_one_of_many_is_sent_to_fetch(fleet: Fleet) -> None:
    """Of all the processes that ask an empty store, exactly one is granted a fetch."""
    processes = [fleet.process() for _ in range(10)]
    assert [p.worker.should_fetch() for p in processes] == [True] + [False] * 9


def test_the_others_wait_for_the_first_definitions() -> None:
    """They get what the one fetched, and the vendor was asked once."""
    fleet = running_fleet(wait=20)
    leader, followers = fleet.process(), [fleet.process() for _ in range(4)]
    assert leader.worker.should_fetch()
    with ThreadPoolExecutor(4) as pool:
        waits = [pool.submit(follower.poll) for follower in followers]
        until(lambda: all(len(f.link.calls) >= 3 for f in followers), what="each follower to wait")
        leader.fetch()
        assert [wait.result(10) for wait in waits] == [False] * 4
    assert [follower.flags for follower in followers] == [content(1)] * 4
    assert fleet.upstream.requests == 1


def test_when_the_wait_is_over_a_process_goes_on_without_flags() -> None:
    """After the wait there are empty definitions, which are an answer to the SDK, and one event reports it."""
    fleet = running_fleet(wait=0.3)
    fleet.occupy()
    follower = fleet.process()
    assert not follower.worker.should_fetch()
    began = time.monotonic()
    assert follower.worker.definitions() == {"flags": []}
    assert 0.25 <= time.monotonic() - began < 3
    (expired,) = follower.events(ColdStartExpired)
    assert 0.25 <= expired.waited < 3


def test_no_wait_is_no_wait() -> None:
    """With `cold_start_wait=0` a process on an empty store that another one leads continues without flags at once."""
    fleet = running_fleet(wait=0)
    fleet.occupy()
    follower = fleet.process()
    follower.poll()
    assert follower.flags == {"flags": []}
    assert follower.link.calls == ["poll"]


def test_a_declined_wait_is_no_error_until_the_default_wait_is_over() -> None:
    """Each start on an empty store would be one: the loss and its end are INFO. After ten seconds both are ERROR."""
    fleet = Fleet(Settings(refresh_interval=30, cold_start_wait=0))
    fleet.occupy()
    quick, late = fleet.process(), fleet.process()
    quick.poll()
    late.poll()
    assert [event.level for event in quick.events(ColdStartExpired)] == [logging.INFO]
    fleet.plant(encode(content(1), digest(content(1))), version=digest(content(1)))
    fleet.clock.advance(1)
    quick.poll()
    assert [event.level for event in quick.events(ColdStartRecovered)] == [logging.INFO]
    fleet.store.clear()
    fleet.clock.advance(10)
    late.poll()
    late.poll()
    assert [event.level for event in late.events(ColdStartExpired)] == [logging.INFO, logging.ERROR]
    assert str(late.events(ColdStartExpired)[1]).startswith("no definitions after 11 s: all flags are off")


def test_a_reader_without_definitions_is_an_error() -> None:
    """It never waits, and nothing that it does fills the store."""
    fleet = Fleet(Settings(refresh_interval=30, role="reader"))
    reader = fleet.process()
    reader.poll()
    assert [event.level for event in reader.events(ColdStartExpired)] == [logging.ERROR]


def test_a_process_waits_once() -> None:
    """After the wait every thread gets the empty answer at once, and the event does not come again."""
    fleet = running_fleet(wait=1.0)
    fleet.occupy()
    follower = fleet.process()
    follower.poll()
    began = time.monotonic()
    for _ in range(20):
        assert follower.worker.should_fetch() is False
        assert follower.worker.definitions() == {"flags": []}
    assert in_thread(follower.worker.definitions) == {"flags": []}
    assert time.monotonic() - began < 1.0
    assert len(follower.events(ColdStartExpired)) == 1


def test_all_threads_share_the_one_wait() -> None:
    """Eight threads of a new process wait together, not one after the other, and one event reports the end."""
    fleet = running_fleet(wait=1.0)
    fleet.occupy()
    follower = fleet.process()
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        for poll in [pool.submit(follower.poll) for _ in range(8)]:
            poll.result(10)
    assert time.monotonic() - began < 2 * 1.0
    assert len(follower.events(ColdStartExpired)) == 1
    assert fleet.upstream.requests == 0


def test_definitions_that_come_after_the_wait_are_taken() -> None:
    """The empty answer is replaced at the next poll."""
    fleet = running_fleet(wait=0.1)
    fleet.occupy()
    follower = fleet.process()
    follower.poll()
    assert follower.flags == {"flags": []}
    fleet.plant(encode(content(1), digest(content(1))), version=digest(content(1)))
    follower.poll()
    assert follower.flags == content(1)


def test_a_leader_that_dies_in_its_first_fetch_is_followed_within_the_wait() -> None:
    """Its lease ends before half of the wait, and one of those that wait fetches in its place; the others get that."""
    fleet = running_fleet(wait=2.5)
    dead, first, second = fleet.process(), fleet.process(), fleet.process()
    assert dead.worker.should_fetch()
    with ThreadPoolExecutor(2) as pool:
        polls = [pool.submit(process.poll) for process in (first, second)]
        assert sorted(poll.result(10) for poll in polls) == [False, True]
    assert first.flags == second.flags == content(1)
    assert fleet.upstream.requests == 1


def test_a_thread_that_brings_definitions_ends_the_wait_of_the_others() -> None:
    """In one process, a thread that waits continues as soon as another has fetched."""
    fleet = running_fleet(wait=20)
    process = fleet.process()
    assert process.worker.should_fetch()
    waiting = threading.Thread(target=process.poll)
    waiting.start()
    until(lambda: len(process.link.calls) >= 8, what="the other thread to pause")
    process.fetch()
    waiting.join(2)
    assert not waiting.is_alive()


def test_a_store_that_never_answered_is_not_waited_for() -> None:
    """With the store away from the start, a process fetches for itself at once."""
    fleet = running_fleet(wait=20)
    process = fleet.process()
    process.link.cut = True
    began = time.monotonic()
    assert process.poll() is True
    assert time.monotonic() - began < 2
    assert process.flags == content(1)
