"""The record of the calling thread: for which thread it acts, and what it does now for the caches of this process.

The vendor's SDK asks, fetches and delivers on one thread, and a grant belongs to that thread
(`flagcache.worker.grants`). A call that must not block its thread, because that runs an event loop, runs on another
thread, which acts for it.

A thread may be inside a call of a cache and call that cache again: an `on_event`, or a logging filter, may evaluate a
flag, which asks the cache for definitions that this thread is about to bring. Such a call must not wait for them.
It may also be at work in two caches at once, so what concerns one cache is noted under that cache.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from flagcache.runtime.clock import monotonic
from flagcache.runtime.threads import PerThread

__all__ = [
    "Caller",
    "Inside",
    "ThreadRecord",
    "acting_for",
    "caller",
    "thread_record",
    "waits_until",
    "wanting",
    "within",
]


class Caller:
    """Stands for one thread, or under gevent for one greenlet. Lives as long as that, unless a reference keeps it."""

    __slots__ = ("__weakref__", "asked_at", "max_age")

    def __init__(self) -> None:
        self.asked_at = float("-inf")
        """When it last asked whether to fetch, by this process's clock: a later grant is new to it."""
        self.max_age: float | None = None
        """Seconds: the caller waits for a fetch under way if the definitions are older. None: no limit."""


class ThreadRecord:
    """One thread, or under gevent one greenlet. What is noted here lasts as long as a `with` or `try` block."""

    __slots__ = ("caller", "inside", "notes", "until")

    def __init__(self) -> None:
        self.caller = Caller()
        """The caller that it acts for."""
        self.inside: tuple[Inside, ...] = ()
        """The caches in whose calls it is."""
        self.notes: dict[object, object] = {}
        """What a module or a cache records of it; the module or cache is the key."""
        self.until = float("inf")
        """When its `within` ends, by the system's monotonic clock."""


thread_record = PerThread(ThreadRecord)
"""Returns the record of the running thread."""


def caller() -> Caller:
    """Return the caller for which the running thread acts."""
    return thread_record().caller


@contextmanager
def acting_for(who: Caller) -> Generator[None]:
    """The running thread acts for another one inside the `with` block."""
    thread = thread_record()
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
        anew: use this limit, because the process was suspended during the outer one.
    """
    thread = thread_record()
    before, until = thread.until, monotonic() + seconds
    thread.until = until if anew else min(before, until)
    try:
        yield
    finally:
        thread.until = before


def waits_until() -> float:
    """Return when the running thread's `within` ends, by the system's monotonic clock; infinity without a limit."""
    return thread_record().until


class Inside:
    """For one cache: which threads are inside a call."""

    @property
    def now(self) -> bool:
        """Whether the calling thread is inside a call of the cache."""
        return self in thread_record().inside

    @contextmanager
    def entered(self) -> Generator[None]:
        """Inside the `with` block the calling thread counts as inside a call."""
        yield from self._set(now=True)

    @contextmanager
    def left(self) -> Generator[None]:
        """Inside the `with` block it doesn't, because it runs a client's poll, which calls the cache from outside."""
        yield from self._set(now=False)

    def _set(self, *, now: bool) -> Generator[None]:
        thread = thread_record()
        before = thread.inside
        thread.inside = (*before, self) if now else tuple(cache for cache in before if cache is not self)
        try:
            yield
        finally:
            thread.inside = before
