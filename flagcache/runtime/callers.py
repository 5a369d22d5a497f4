"""For which thread the running thread acts: for itself, or for the thread whose call it runs.

The vendor's SDK asks, fetches and delivers on one thread, and a grant belongs to that thread
(`flagcache.worker.grants`). A call that must not block its thread, because that runs an event loop, runs on another
thread, which acts for it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from flagcache.runtime.clock import monotonic
from flagcache.runtime.threads import PerThread

__all__ = ["Caller", "acting_for", "caller", "waits_until", "wanting", "within"]


class Caller:
    """Stands for one thread, or under gevent for one greenlet. Lives as long as that, unless a reference keeps it."""

    __slots__ = ("__weakref__", "asked_at", "max_age")

    def __init__(self) -> None:
        self.asked_at = float("-inf")
        """Own clock when it last asked whether to fetch: what was granted since is new to it."""
        self.max_age: float | None = None
        """Seconds; definitions may be older only if no fetch is under way. None: no limit."""


class _Thread:
    def __init__(self) -> None:
        self.caller = Caller()
        self.until = float("inf")


_thread = PerThread(_Thread)


def caller() -> Caller:
    """Return the caller for which the running thread acts."""
    return _thread().caller


@contextmanager
def acting_for(who: Caller) -> Generator[None]:
    """The running thread acts for another one inside the `with` block."""
    thread = _thread()
    before, thread.caller = thread.caller, who
    try:
        yield
    finally:
        thread.caller = before


@contextmanager
def wanting(max_age: float) -> Generator[None]:
    """Inside the `with` block the caller waits for a fetch under way if the definitions are older than `max_age`.

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
    """Limit how long the running thread waits, in total inside the `with` block, for other users of a file.

    After that time each use of the file still waits a tenth of its timeout.

    Args:
        seconds: from now on; of two nested limits the one that ends first counts.
        anew: this limit counts, because the process was suspended during the outer one.
    """
    thread = _thread()
    before, until = thread.until, monotonic() + seconds
    thread.until = until if anew else min(before, until)
    try:
        yield
    finally:
        thread.until = before


def waits_until() -> float:
    """Return when the running thread's `within` ends, by the system's monotonic clock; infinity without a limit."""
    return _thread().until
