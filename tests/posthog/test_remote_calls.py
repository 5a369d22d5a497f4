"""When requests to `/flags` pause, for how long, and how they resume."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest

from flagcache_posthog import _remote_calls
from flagcache_posthog._remote_calls import FAILURES, PAUSE, RemoteCalls, RemoteStatus, calls_of
from tests.support.servers import until


class _Clock:
    """Seconds that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    """A clock of the test's own."""
    return _Clock()


@pytest.fixture
def paused(clock: _Clock) -> RemoteCalls:
    """Requests that have just failed too often."""
    calls = RemoteCalls(clock)
    for _ in range(FAILURES):
        calls.record(0.01, answered=False)
    assert calls.paused
    return calls


def _refuse(_thread: threading.Thread) -> str:
    return "can't start new thread"


def _never() -> bool:
    pytest.fail("it was asked")


def test_only_failures_in_a_row_count(clock: _Clock) -> None:
    """A good answer restarts the count; a slow one counts as a failure."""
    calls = RemoteCalls(clock)
    for seconds, answered in ((0.1, False), (1.0, True), (0.9, True), (5.0, False), (0.1, False)):
        calls.record(seconds, answered=answered)
    assert calls.status == RemoteStatus(requests=5, failed=3, slow=1)
    calls.record(1.5, answered=True)
    assert calls.status == RemoteStatus(requests=6, failed=3, slow=2, paused=True)


def test_one_probe_a_pause(paused: RemoteCalls, clock: _Clock) -> None:
    """There is no probe before the pause is over; then one, for any number of callers, and no caller waits."""
    paused.skip(_never)
    clock.now += 1.26 * PAUSE
    begin, asked = threading.Event(), list[str]()

    def probe() -> bool:
        asked.append(threading.current_thread().name)
        return begin.wait(10)

    callers = [threading.Thread(target=paused.skip, args=(probe,)) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert paused.status.skipped == 9
    assert paused.paused
    begin.set()
    until(lambda: not paused.paused)
    assert asked == ["flagcache-probe"]
    assert paused.status == RemoteStatus(requests=FAILURES + 1, failed=FAILURES, skipped=9)


@pytest.mark.parametrize("outcome", ["fails", "raises", "is slow"])
def test_a_probe_that_fails_begins_another_pause(paused: RemoteCalls, clock: _Clock, outcome: str) -> None:
    """A failed probe begins another pause, as long as the first one."""
    clock.now += 1.26 * PAUSE

    def probe() -> bool:
        if outcome == "raises":
            raise RuntimeError
        clock.now += 2 if outcome == "is slow" else 0
        return outcome == "is slow"

    paused.skip(probe)
    until(lambda: paused.status.requests == FAILURES + 1)
    assert paused.paused
    paused.skip(_never)
    clock.now += 0.9 * PAUSE
    paused.skip(_never)
    clock.now += 0.4 * PAUSE
    paused.skip(lambda: True)
    until(lambda: not paused.paused)


def test_a_probe_without_an_outcome_is_given_up(
    paused: RemoteCalls, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe whose thread the system refused, or whose process forked, is given up: a later caller begins another."""
    clock.now += 1.26 * PAUSE
    monkeypatch.setattr(_remote_calls, "try_start", _refuse)
    paused.skip(_never)
    monkeypatch.undo()
    paused.skip(_never)
    clock.now += 31
    paused.skip(lambda: True)
    until(lambda: not paused.paused)


def test_a_late_answer_ends_the_pause(paused: RemoteCalls) -> None:
    """The answer to a request that began before the pause ends it."""
    paused.record(0.5, answered=True)
    assert not paused.paused


def test_a_forked_child_goes_on_by_itself(paused: RemoteCalls) -> None:
    """A child continues from what its parent knew, by itself."""
    pid = os.fork()
    if pid == 0:
        paused.record(0.1, answered=True)
        os._exit(7 if paused.status == RemoteStatus(FAILURES + 1, FAILURES) else 8)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert paused.paused


def test_each_client_has_its_own() -> None:
    """Each client has its own calls, for as long as it lives."""

    class Client:
        """Something that can be held weakly."""

    first, second = Client(), Client()
    calls_of(first).record(0.1, answered=True)
    assert (calls_of(first).status.requests, calls_of(second).status.requests) == (1, 0)
    kept = weakref.ref(calls_of(first))
    del first
    gc.collect()
    assert kept() is None
