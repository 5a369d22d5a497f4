"""Threads: starting one, which the system may refuse, and thread-locals, before and after gevent patches.

The system refuses a thread at the limit of threads or processes (`RLIMIT_NPROC`, a cgroup's `pids.max`), and while the
interpreter shuts down. All of flagcache works without its threads, so a refusal is a result and not an exception.

gevent replaces the threads, locks, thread-locals and sockets of the standard library in a running process
(`gevent.monkey`). Threads that already run continue, each with its own event loop, beside greenlets. A lock made before
the patch blocks all greenlets, and a thread-local made before it is shared by them. So what belongs to one kind of
threads is kept under `threading.local`, the class that the patch replaces. A socket made after the patch belongs to the
loop of the thread that made it: if another thread uses it, that loop never stops running.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["PerThread", "make_event", "patched_late", "remember_threads", "try_start"]

_T = TypeVar("_T")

_Event = threading.Event
"""Python's own class, if this module was imported before gevent patched. From the patch on its events use gevent's
locks, which work for the greenlets of all threads."""

_first_local: type[threading.local] | None = None
"""The kind of threads at the creation of the first cache of this process or its parents."""


def remember_threads() -> None:
    """Record the kind of threads at the creation of the first cache of this process."""
    global _first_local  # noqa: PLW0603 - one value for each process
    _first_local = _first_local or threading.local


def patched_late() -> bool:
    """Whether gevent patched after the first cache was made: there are real threads and greenlets."""
    return _first_local is not None and _first_local is not threading.local


def make_event() -> threading.Event:
    """Return an event that works for all threads and greenlets. gevent's own works within one thread only."""
    late = _first_local is not None and _first_local is not threading.local  # as in `patched_late`; each poll runs this
    return (_Event if late else threading.Event)()


class PerThread(Generic[_T]):
    """A value for each thread, or for each greenlet once gevent has patched, even if it patches later.

    Args:
        make: creates a thread's value at its first use.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._by_kind: dict[type[threading.local], threading.local] = {}

    def __call__(self) -> _T:
        """Return the running thread's value."""
        kind = threading.local
        local = self._by_kind.get(kind) or self._by_kind.setdefault(kind, kind())
        known: _T | None = getattr(local, "value", None)
        if known is None:
            known = local.value = self._make()
        return known


def try_start(thread: threading.Thread) -> str:
    """Start a new thread.

    Returns:
        Why the system refused it; empty if the thread runs.
    """
    try:
        thread.start()
    except RuntimeError as exc:
        return str(exc)
    return ""
