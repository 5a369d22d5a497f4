"""In whose name the running thread acts: its own, or that of the thread whose call it runs.

The vendor's SDK asks, fetches and delivers on one thread, and a grant belongs to that thread
(`flagcache.worker.grants`). A call that must not block its thread, which runs an event loop, is carried out by another
one in its name.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from flagcache.runtime.clock import monotonic
from flagcache.runtime.threads import PerThread

__all__ = ["Caller", "acting_for", "caller", "waits_until", "wanting", "within"]


class Caller:
    """Stands for one thread; under gevent for one greenlet. Lives as long as that, unless somebody keeps it."""

    __slots__ = ("__weakref__", "asked_at", "max_age")

    def __init__(self) -> None:
        self.asked_at = float("-inf")
        """When it last asked whether to fetch, by the process's own clock: what was granted since is new to it."""
        self.max_age: float | None = None
        """Seconds; what it is given may be older only if no fetch is under way. None: it does not care."""


class _Thread:
    def __init__(self) -> None:
        self.caller = Caller()
        self.until = float("inf")


_thread = PerThread(_Thread)


def caller() -> Caller:
    """Return whoever the running thread acts for."""
    return _thread().caller


@contextmanager
def acting_for(who: Caller) -> Generator[None]:
    """While this lasts, the running thread acts for another one."""
    thread = _thread()
    before, thread.caller = thread.caller, who
    try:
        yield
    finally:
        thread.caller = before


@contextmanager
def wanting(max_age: float) -> Generator[None]:
    """While this lasts, the caller waits for a fetch under way if what there is was confirmed earlier than that.

    Args:
        max_age: seconds.
    """
    who = caller()
    who.max_age = max_age
    try:
        yield
    finally:
        who.max_age = None


@contextmanager
def within(seconds: float, *, anew: bool = False) -> Generator[None]:
    """While this lasts, the running thread waits at most so many seconds in all for other users of a file.

    Once they are over, each use of the file still waits a tenth of its timeout.

    Args:
        seconds: from now on; of two that are nested the one that ends first counts.
        anew: this one counts, because the process was suspended during the other.
    """
    thread = _thread()
    before, until = thread.until, monotonic() + seconds
    thread.until = until if anew else min(before, until)
    try:
        yield
    finally:
        thread.until = before


def waits_until() -> float:
    """Return when `within` ends for the running thread, by the system's monotonic clock; infinity without it."""
    return _thread().until
