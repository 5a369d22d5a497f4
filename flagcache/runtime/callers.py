"""In whose name the running thread acts: its own, or that of the thread whose call it runs.

The vendor's SDK asks, fetches and delivers on one thread, and a grant belongs to that thread
(`flagcache.worker.grants`). A
call that must not block its thread, which runs an event loop, is carried out by another one in its name.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["Caller", "acting_for", "caller"]


class Caller:
    """Stands for one thread; under gevent for one greenlet. Lives as long as that, unless somebody keeps it."""

    __slots__ = ("__weakref__",)


class _Thread(threading.local):
    caller: Caller | None = None


_thread = _Thread()


def caller() -> Caller:
    """Return whoever the running thread acts for."""
    known = _thread.caller
    if known is None:
        known = _thread.caller = Caller()
    return known


@contextmanager
def acting_for(who: Caller) -> Generator[None]:
    """While this lasts, the running thread acts for another one."""
    before = _thread.caller
    _thread.caller = who
    try:
        yield
    finally:
        _thread.caller = before
