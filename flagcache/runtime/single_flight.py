"""One poll of the stores at a time in a process, shared by all threads that want to know now.

A thread that finds a poll under way waits for it and uses what it brought. It makes its own afterwards only if it asks
on behalf of a notice, or if that poll could not bring what this one is for (`SingleFlight.run`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from flagcache.runtime.clock import monotonic
from flagcache.runtime.threads import make_event

__all__ = ["SingleFlight"]

_LOOKS = 0.005
"""Seconds between two looks at whether the poll under way has ended."""


class _Poll(NamedTuple):
    over: threading.Event
    thread: int
    contends: bool


class SingleFlight:
    """The polls of one process. After `close` there are none."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a signal handler may need what it interrupted
        self._current: _Poll | None = None
        self._closed = False

    def close(self) -> None:
        """Let no further poll begin."""
        with self._lock:
            self._closed = True

    def run(
        self, ask: Callable[[], None], *, contends: bool, longest: float, again: Callable[[], bool], alone: bool
    ) -> None:
        """Ask the stores, or wait for the poll under way.

        Timeline without `again`, while the store hangs: the listener probes it and may not fetch. The client's poller
        arrives, waits for the probe's timeout and returns. Its next poll arrives during the next probe. Nothing
        fetches.

        Args:
            ask: makes the poll.
            contends: this poll may take the lease or a grant.
            longest: seconds to wait for a poll under way.
            again: asked after a poll that could not contend, if this one can: whether to make this one still.
            alone: make this one in any case, after the one under way: it follows a notice, and must not be older.
        """
        mine = _Poll(make_event(), threading.get_ident(), contends)
        until = monotonic() + longest
        try:
            while (running := self._join(mine)) is not mine:
                if running is None:
                    return
                left = longest if alone else max(0.0, until - monotonic())
                ended = running.over.wait(left)
                if not alone and not (ended and contends and not running.contends and again()):
                    return
            ask()
        finally:  # also if a signal handler raises meanwhile
            if self._current is mine:
                self._current = None
            mine.over.set()

    def settle(self, longest: float) -> None:
        """Wait until another thread's poll under way has ended: it may take the lease, which must then be released.

        Looks repeatedly instead of waiting for the event: a signal handler may call this on a thread that it
        interrupted while that thread held the event's lock.
        """
        running = self._current
        for _ in range(round(longest / _LOOKS)):
            if running is None or self._current is not running or running.thread == threading.get_ident():
                return
            threading.Event().wait(_LOOKS)

    def _join(self, mine: _Poll) -> _Poll | None:
        """Return the poll under way, which is this one if there was none; None after `close`."""
        with self._lock:
            if self._closed:
                return None
            if self._current is None:
                self._current = mine
            return self._current
