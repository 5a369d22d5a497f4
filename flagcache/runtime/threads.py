"""Threads: starting one, which the system may refuse, and values of each, before and after gevent patches.

A process at its limit of threads or processes (`RLIMIT_NPROC`, a cgroup's `pids.max`) gets none, and nor does one whose
interpreter is shutting down. Each of our threads has something that goes on without it, so a refusal is a result here
and not an exception.

gevent replaces the threads, locks, thread-locals and sockets of the standard library in a running process
(`gevent.monkey`). Threads that run already go on, each with an event loop of its own from then on, beside greenlets. A
lock made before stops all greenlets, a thread-local made before is common to them, and a socket made since belongs to
the loop of the thread that made it: used by another, it keeps that loop busy for good.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["PerThread", "kind_of_threads", "make_event", "note_threads", "patched_late", "try_start"]

_T = TypeVar("_T")

_Event = threading.Event
"""Python's own class, if we were imported before gevent patched. Its events use gevent's locks from the patch on, which
serve the greenlets of all threads."""

_noted: type[threading.local] | None = None
"""The kind of threads there was when the first cache of this process, or of one it was forked from, was made."""


def kind_of_threads() -> type[threading.local]:
    """Return the class of thread-locals, which tells one kind of threads from the other: gevent's patch replaces it."""
    return threading.local


def note_threads() -> None:
    """Note the kind of threads with which the first cache of this process is made."""
    global _noted  # noqa: PLW0603 - one note of the process
    _noted = _noted or kind_of_threads()


def patched_late() -> bool:
    """Whether gevent has patched since the first cache was made: real threads and greenlets are side by side."""
    return _noted is not None and _noted is not kind_of_threads()


def make_event() -> threading.Event:
    """Return an event that serves all threads and greenlets. gevent's own serves the greenlets of one thread alone."""
    return (_Event if patched_late() else threading.Event)()


class PerThread(Generic[_T]):
    """A value of each thread; of each greenlet once gevent has patched, which may be later than this is made.

    Args:
        make: makes the value of a thread, when that first asks for it.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._by_kind: dict[type[threading.local], threading.local] = {}

    def __call__(self) -> _T:
        """Return the running thread's value."""
        kind = kind_of_threads()
        local = self._by_kind.get(kind) or self._by_kind.setdefault(kind, kind())
        known: _T | None = getattr(local, "value", None)
        if known is None:
            known = local.value = self._make()
        return known


def try_start(thread: threading.Thread) -> str:
    """Start a new thread.

    Returns:
        Why the system refused it, for people; empty if the thread runs.
    """
    try:
        thread.start()
    except RuntimeError as exc:
        return str(exc)
    return ""
