"""For which thread a thread acts."""

from __future__ import annotations

import gc
import math
import threading
import weakref

import pytest

from flagcache.runtime.callers import Caller, acting_for, caller, waits_until, within
from flagcache.runtime.clock import monotonic
from flagcache.stores.base import Grant
from flagcache.worker.grants import PollOutcome, ThreadGrants
from tests.support.in_process_fleet import in_thread

GRANTED = PollOutcome("store", Grant(as_of=1, epoch=0, at=1), 1, 0.0)


def test_each_thread_is_one_caller() -> None:
    """Each thread has one caller, which is no other thread's."""
    mine = caller()
    assert caller() is mine
    assert in_thread(caller) is not mine


def test_a_thread_acts_for_another_while_it_is_told_to() -> None:
    """Also one inside the other, and when what it does fails; afterwards it acts for itself again."""
    mine, other, third = caller(), Caller(), Caller()

    def act_and_fail() -> None:
        with acting_for(third):
            assert caller() is third
            raise ValueError("failed")

    with acting_for(other):
        with pytest.raises(ValueError, match="failed"):
            act_and_fail()
        assert caller() is other
    assert caller() is mine


def test_a_grant_is_its_callers_whichever_thread_runs() -> None:
    """A thread that acts for another one may use and deliver its grant; other threads may not."""
    grants, mine = ThreadGrants(), caller()
    grants.record(caller(), GRANTED)

    def in_its_name() -> tuple[bool, tuple[PollOutcome | None, bool]]:
        with acting_for(mine):
            return grants.granted_to(caller()), grants.take(caller())

    assert in_thread(lambda: grants.granted_to(caller())) is False
    assert in_thread(in_its_name) == (True, (GRANTED, True))
    assert not grants.granted_to(mine)


def test_an_errand_ends_with_its_thread() -> None:
    """Nothing is kept of threads that are gone."""
    grants = ThreadGrants()

    def sent() -> weakref.ref[Caller]:
        grants.record(caller(), GRANTED)
        return weakref.ref(caller())

    gone = in_thread(sent)
    gc.collect()
    assert gone() is None


def test_a_bound_is_the_running_threads_alone() -> None:
    """Two threads that act for one caller, as the calls of an event loop's thread: neither leaves its bound behind."""
    mine, entered, leave = caller(), threading.Event(), threading.Event()

    def beside() -> None:
        with acting_for(mine), within(60.0):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=beside)
    with within(1.0):
        thread.start()
        assert entered.wait(10)
        with within(30.0):
            assert waits_until() < monotonic() + 2.0
    leave.set()
    thread.join(10)
    assert waits_until() == math.inf
    with within(30.0):
        assert waits_until() > monotonic() + 20.0
