"""Reports that this process leads or no longer does: an event for each change, at most one log line a minute."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from flagcache.events import Event, LeadershipLost, LeadershipTaken

__all__ = ["Leadership"]

_EVERY = 60.0
"""Least seconds between two log lines about who leads."""


class Leadership:
    """The reports of one process.

    Args:
        namespace: for the events.
        clock: this process's own clock, in seconds.
    """

    def __init__(self, namespace: str, clock: Callable[[], float]) -> None:
        self._namespace = namespace
        self._clock = clock
        self._logged = ""
        """The store in which this process leads, according to the last log line; empty: none."""
        self._logged_at = -math.inf
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt what holds it

    def changed(self, store_name: str, *, leads: bool) -> Event:
        """Return the event. Of the changes within a minute only the first and the last are logged."""
        with self._lock:
            quiet = self._clock() - self._logged_at < _EVERY
            if not quiet:
                self._logged, self._logged_at = store_name if leads else "", self._clock()
        return self._event(store_name, leads=leads, quiet=quiet)

    def left_out(self, store_name: str, now: float) -> Event | None:
        """Return the event that was not logged, once the minute is over.

        Args:
            store_name: the store in which this process leads now; empty: none.
            now: this process's own clock.
        """
        with self._lock:
            before = self._logged
            if store_name == before or now - self._logged_at < _EVERY:
                return None
            self._logged, self._logged_at = store_name, now
        return self._event(store_name or before, leads=bool(store_name))

    def _event(self, store_name: str, *, leads: bool, quiet: bool = False) -> Event:
        return (LeadershipTaken if leads else LeadershipLost)(self._namespace, store_name, quiet)
