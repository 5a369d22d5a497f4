"""Requests to PostHog's `/flags` for flags that cannot be decided locally: counted, and paused while they fail.

A circuit breaker for each client of a process, in memory. Several requests in a row that failed or were slow open it:
then no request is made, and callers go on at once. When the pause is over it is half open: one of our threads asks for
a later caller, which does not wait, and a good answer closes it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple

from flagcache.runtime.clock import monotonic
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.here import prefix
from flagcache.runtime.process_lock import ProcessLock
from flagcache.runtime.threads import try_start

__all__ = ["FAILURES", "PAUSE", "SLOW", "Limits", "RemoteCalls", "RemoteStatus", "calls_of", "limit", "on_event_loop"]

_log = logging.getLogger("flagcache")

FAILURES = 3
"""Requests that fail or are slow, in a row, until requests pause."""
SLOW = 1.0
"""Seconds from which an answer counts as slow."""
PAUSE = 30.0
"""Seconds until PostHog is asked again, and up to a quarter more: processes don't ask in step."""

_LONGEST_PROBE = 30.0
"""Seconds after which a probe without an outcome is given up: a forked child has no thread that would end it."""


class RemoteStatus(NamedTuple):
    """What a client's requests to `/flags` came to in this process."""

    requests: int = 0
    """Made, probes included."""
    failed: int = 0
    """Of these, without a value. One that the SDK answered from its own cache doesn't count."""
    slow: int = 0
    """Of these, with a value, and slower than a second."""
    skipped: int = 0
    """Not made, because requests were paused."""
    paused: bool = False
    """Whether requests are paused now."""


class Limits(NamedTuple):
    """When the requests of one client pause, if not as above."""

    longest: float
    """Seconds from which an answer counts as slow; one that took so long pauses requests at once."""
    pause: float
    """As `PAUSE`."""


class RemoteCalls:
    """The requests of one client.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.limits: Limits | None = None
        self._lock = ProcessLock()
        self._in_a_row = 0
        self._paused_at: float | None = None
        self._due = 0.0
        self._counts = RemoteStatus()

    @property
    def status(self) -> RemoteStatus:
        """What they came to."""
        return self._counts._replace(paused=self.paused)

    @property
    def paused(self) -> bool:
        """Whether no request is to be made."""
        return self._paused_at is not None

    def note(self, seconds: float, *, answered: bool) -> None:
        """Count one request, which took so many seconds."""
        with self._lock:
            counts = self._counts
            slow = answered and seconds >= self._slow
            self._counts = counts._replace(
                requests=counts.requests + 1, failed=counts.failed + (not answered), slow=counts.slow + slow
            )
            if answered and not slow:
                self._close()
            else:
                self._fail(at_once=self.limits is not None and seconds >= self.limits.longest)

    def skip(self, probe: Callable[[], bool]) -> None:
        """Count a request that is not made, and ask PostHog in the background if that is due.

        Args:
            probe: makes a request; whether it was answered.
        """
        with self._lock:
            self._counts = self._counts._replace(skipped=self._counts.skipped + 1)
            if not self.paused or self._clock() < self._due:
                return
            self._due = self._clock() + _LONGEST_PROBE
        try_start(threading.Thread(target=self._probe, args=(probe,), name="flagcache-probe", daemon=True))

    def _probe(self, probe: Callable[[], bool]) -> None:
        began = self._clock()
        answered = log_exceptions(probe, None, "", "PostHog could not be asked whether it decides flags again")
        self.note(self._clock() - began, answered=bool(answered))

    @property
    def _slow(self) -> float:
        return SLOW if self.limits is None else self.limits.longest

    def _fail(self, *, at_once: bool) -> None:
        self._in_a_row += 1
        if self._in_a_row < FAILURES and not at_once and not self.paused:
            return
        now = self._clock()
        self._due = now + (PAUSE if self.limits is None else self.limits.pause) * random.uniform(1.0, 1.25)
        if self._paused_at is None:
            self._paused_at = now
            _log.warning(
                "%s: requests to PostHog (%d in a row), for flags that cannot be decided locally, failed or took over"
                " %.0f s: such flags read as their defaults, and PostHog is asked again in %.0f s",
                prefix(),
                self._in_a_row,
                self._slow,
                self._due - now,
            )

    def _close(self) -> None:
        if self._paused_at is not None:
            _log.warning(
                "%s: PostHog answers again for flags that cannot be decided locally, after %.0f s",
                prefix(),
                self._clock() - self._paused_at,
            )
        self._in_a_row, self._paused_at = 0, None


_calls: weakref.WeakKeyDictionary[object, RemoteCalls] = weakref.WeakKeyDictionary()


def calls_of(client: object) -> RemoteCalls:
    """Return the requests of this client."""
    return _calls.get(client) or _calls.setdefault(client, RemoteCalls())


def limit(client: object, limits: Limits) -> None:
    """Set other limits for the requests of this client."""
    calls_of(client).limits = limits


def on_event_loop() -> bool:
    """Whether the calling thread runs an event loop, which a request would stop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
