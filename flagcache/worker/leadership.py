"""What one process says of who leads: each change is an event, of which the log has at most one a minute."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from flagcache.events import Event, LeadershipLost, LeadershipTaken

__all__ = ["Leadership"]

_EVERY = 60.0
"""Seconds between two lines in the log about who leads, at least."""


class Leadership:
    """What was said last.

    Args:
        namespace: for the events.
        clock: this process's own clock, in seconds.
    """

    def __init__(self, namespace: str, clock: Callable[[], float]) -> None:
        self._namespace = namespace
        self._clock = clock
        self._logged = ""
        """Where this process leads, as it was logged last."""
        self._logged_at = -math.inf
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt what holds it

    def changed(self, store_name: str, *, leads: bool) -> Event:
        """Return the event. Of what changes within a minute the log has the first and the last alone."""
        with self._lock:
            quiet = self._clock() - self._logged_at < _EVERY
            if not quiet:
                self._logged, self._logged_at = store_name if leads else "", self._clock()
        return self._event(store_name, leads=leads, quiet=quiet)

    def left_out(self, store_name: str, now: float) -> Event | None:
        """Return what the log lacks, once the minute is over.

        Args:
            store_name: where this process leads now; empty if it does not.
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
