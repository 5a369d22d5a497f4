"""A lock of one process: a forked child never finds it held by a thread that it does not have."""

from __future__ import annotations

import os
import threading
from types import TracebackType

from flagcache.runtime.threads import kind_of_threads

__all__ = ["ProcessLock"]


class ProcessLock:
    """A lock, made anew in each process and once gevent has patched.

    Reentrant, because a signal handler may need what it interrupted.
    """

    def __init__(self) -> None:
        self._locks: dict[tuple[int, type[threading.local]], threading.RLock] = {}

    def __enter__(self) -> None:
        self._locks.setdefault((os.getpid(), kind_of_threads()), threading.RLock()).acquire()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Not there: entered before a fork in a greenlet, which goes on in the child.
        if (lock := self._locks.get((os.getpid(), kind_of_threads()))) is not None:
            lock.release()
