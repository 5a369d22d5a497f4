"""One call at a time in a process, shared by all threads that want its result now (single-flight).

A thread that finds a call under way waits for it and uses its result. It then makes its own call only if it wants
something newer than that call, or something that the call could not bring (`SingleFlight.run`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from flagcache.runtime.clock import monotonic
from flagcache.runtime.threads import make_event

__all__ = ["SingleFlight"]

_CHECK_EVERY = 0.005
"""Seconds between two looks at whether the call under way has ended."""


class _Flight(NamedTuple):
    over: threading.Event
    thread: int
    full: bool


class SingleFlight:
    """The shared calls of one process. After `close` there are none."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a signal handler may need the lock that it interrupted
        self._current: _Flight | None = None
        self._closed = False

    def close(self) -> None:
        """Let no further call begin."""
        with self._lock:
            self._closed = True

    def run(self, call: Callable[[], None], *, full: bool, longest: float, newer: bool) -> None:
        """Make the call, or wait for the one under way.

        A full call follows one that was not full. Timeline without that: a process starts, and the poll of its
        new listener, which takes no lease, is under way. The client's poll waits for it and gets no grant. So the first
        fetch is an interval late.

        Args:
            call: what to do.
            full: this call may bring everything that a caller wants; otherwise, only a part.
            longest: seconds to wait for a call under way.
            newer: make this call in any case, after the one under way, which may have begun before the change that
                caused this call.
        """
        mine = _Flight(make_event(), threading.get_ident(), full)
        until: float | None = None
        try:
            while (running := self._join(mine)) is not mine:
                if running is None:
                    return
                until = monotonic() + longest if until is None else until
                ended = running.over.wait(longest if newer else max(0.0, until - monotonic()))
                if not newer and not (ended and full and not running.full):
                    return
            call()
        finally:  # also if a signal handler raises meanwhile
            if self._current is mine:
                self._current = None
            mine.over.set()

    def wait_for_end(self, longest: float) -> None:
        """Wait until another thread's call under way has ended, at most this many seconds.

        Looks repeatedly instead of waiting for the event: a signal handler may call this on a thread that it
        interrupted while that thread held the event's lock.
        """
        running = self._current
        for _ in range(round(longest / _CHECK_EVERY)):
            if running is None or self._current is not running or running.thread == threading.get_ident():
                return
            threading.Event().wait(_CHECK_EVERY)

    def _join(self, mine: _Flight) -> _Flight | None:
        """Return the call under way, which is this one if there was none; None after `close`."""
        with self._lock:
            if self._closed:
                return None
            if self._current is None:
                self._current = mine
            return self._current
