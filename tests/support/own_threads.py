"""The threads of flagcache in the tests' process."""

from __future__ import annotations

import gc
import threading
import time
import weakref

__all__ = ["await_earlier", "begin_test", "threads_of"]

_LONGEST_END = 10.0
"""Seconds for which threads of earlier tests may still run."""


_earlier: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
"""The threads that ran when the test began: those of earlier tests may still be about to end."""


def begin_test() -> None:
    """Leave out the threads that run now: each test begins with this (tests/conftest.py)."""
    _earlier.clear()
    _earlier.update(threading.enumerate())


def await_earlier() -> None:
    """Wait until our threads of earlier tests have ended, for a test that they would disturb."""
    until = time.monotonic() + _LONGEST_END
    while left := [each.name for each in list(_earlier) if each.is_alive() and each.name.startswith("flagcache")]:
        gc.collect()
        assert time.monotonic() < until, f"these threads of earlier tests do not end: {left}"
        time.sleep(0.01)


def threads_of() -> list[str]:
    """Return the names of our own threads in this process since the test began, after a garbage collection."""
    gc.collect()
    running = (thread for thread in threading.enumerate() if thread not in _earlier)
    return sorted(thread.name for thread in running if thread.name.startswith("flagcache"))
