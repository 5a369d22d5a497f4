"""A lock that belongs to one process, so that a forked child never finds it held by a thread of its parent."""

from __future__ import annotations

import os
import threading
from types import TracebackType

__all__ = ["ProcessLock"]


class ProcessLock:
    """A lock; each process has its own, and a new one once gevent has patched.

    Reentrant, because a signal handler may need the lock that it interrupted.
    """

    def __init__(self) -> None:
        self._locks: dict[tuple[int, type[threading.local]], threading.RLock] = {}

    def __enter__(self) -> None:
        self._locks.setdefault((os.getpid(), threading.local), threading.RLock()).acquire()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Missing if a greenlet entered before a fork and continues in the child.
        if (lock := self._locks.get((os.getpid(), threading.local))) is not None:
            lock.release()
