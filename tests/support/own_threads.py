"""The threads of flagcache in the tests' process."""

from __future__ import annotations

import gc
import threading
import weakref

__all__ = ["begin_test", "threads_of"]


_earlier: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
"""The threads that ran when the test began: those of earlier tests may still be about to end."""


def begin_test() -> None:
    """Leave out the threads that run now: each test begins with this (tests/conftest.py)."""
    _earlier.clear()
    _earlier.update(threading.enumerate())


def threads_of() -> list[str]:
    """The names of our own threads in this process since the test began; what is garbage is collected before."""
    gc.collect()
    running = (thread for thread in threading.enumerate() if thread not in _earlier)
    return sorted(thread.name for thread in running if thread.name.startswith("flagcache"))
