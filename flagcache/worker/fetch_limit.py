"""How often one process fetches at most, whatever its stores grant.

A store decides when the fleet fetches, and another program that can write to it can make it grant a fetch at each poll.
So a process counts its own fetches, on its own clock. An honest store stays within the limit: it gives three grants an
interval, and a fourth if fetches fail. Belongs to one process; a forked child starts its own count.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

__all__ = ["MAX_FETCHES", "FetchLimit"]

MAX_FETCHES = 4
"""Fetches in any refresh interval."""


class FetchLimit:
    """The latest fetches of one process.

    Args:
        interval: the refresh interval in seconds.
        clock: this process's own clock, in seconds.
    """

    def __init__(self, interval: float, clock: Callable[[], float]) -> None:
        self._interval = interval
        self._clock = clock
        self._began: deque[float] = deque(maxlen=MAX_FETCHES)
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt what holds it

    def take(self) -> bool:
        """Count a fetch that begins now. If there were too many, count nothing and return False."""
        with self._lock:
            if self._clock() < self.ready_at:
                return False
            self._began.append(self._clock())
            return True

    @property
    def ready_at(self) -> float:
        """When the next fetch may begin, on the process's own clock; in the past if it may begin now."""
        with self._lock:
            return self._began[0] + self._interval if len(self._began) == MAX_FETCHES else 0.0
