"""Requests to PostHog's `/flags` for flags that can't be decided locally, behind a circuit breaker.

Each client of a process has one, in memory. Several requests in a row that fail or are slow open it: then no request is
made, and callers continue at once. After a pause it is half open: at the next call one of our threads makes a request,
for which the caller doesn't wait. A good response closes it.
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
from flagcache.runtime.log_prefix import prefix
from flagcache.runtime.process_lock import ProcessLock
from flagcache.runtime.threads import try_start

__all__ = ["FAILURES", "PAUSE", "SLOW", "Limits", "RemoteCalls", "RemoteStatus", "calls_of", "limit", "on_event_loop"]

_log = logging.getLogger("flagcache")

FAILURES = 3
"""Failed or slow requests in a row that open the circuit breaker."""
SLOW = 1.0
"""Seconds from which a response counts as slow."""
PAUSE = 30.0
"""Seconds until PostHog is asked again, plus up to a quarter, so that processes don't ask at the same time."""

_MAX_PROBE = 30.0
"""Seconds after which another probe may start: a forked child doesn't have the thread of an unfinished one."""


class RemoteStatus(NamedTuple):
    """Counts of a client's requests to `/flags` in this process."""

    requests: int = 0
    """Requests, including probes."""
    failed: int = 0
    """Requests that returned no value. One that the SDK answered from its own cache doesn't count."""
    slow: int = 0
    """Requests that returned a value after more than a second."""
    skipped: int = 0
    """Requests that were not made because of a pause."""
    paused: bool = False
    """Whether requests are paused now."""


class Limits(NamedTuple):
    """Other limits for the requests of one client."""

    max_seconds: float
    """Seconds from which a response counts as slow; one slow response pauses requests at once."""
    pause: float
    """As `PAUSE`."""


class RemoteCalls:
    """The requests of one client.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.limits: Limits | None = None
        self._lock = ProcessLock()
        self._failures_in_a_row = 0
        self._paused_at: float | None = None
        self._due = 0.0
        self._counts = RemoteStatus()

    @property
    def status(self) -> RemoteStatus:
        """The counts of these requests."""
        return self._counts._replace(paused=self.paused)

    @property
    def paused(self) -> bool:
        """Whether requests are paused."""
        return self._paused_at is not None

    def record(self, seconds: float, *, answered: bool) -> None:
        """Count one request and its duration."""
        with self._lock:
            counts = self._counts
            slow = answered and seconds >= self._slow
            self._counts = counts._replace(
                requests=counts.requests + 1, failed=counts.failed + (not answered), slow=counts.slow + slow
            )
            if answered and not slow:
                self._close()
            else:
                self._fail(at_once=self.limits is not None and seconds >= self.limits.max_seconds)

    def skip(self, probe: Callable[[], bool]) -> None:
        """Count a request that is not made, and probe PostHog in the background if that is due.

        Args:
            probe: makes a request; returns whether PostHog answered.
        """
        with self._lock:
            self._counts = self._counts._replace(skipped=self._counts.skipped + 1)
            if not self.paused or self._clock() < self._due:
                return
            self._due = self._clock() + _MAX_PROBE
        try_start(threading.Thread(target=self._probe, args=(probe,), name="flagcache-probe", daemon=True))

    def _probe(self, probe: Callable[[], bool]) -> None:
        began = self._clock()
        answered = log_exceptions(probe, None, "", "the probe of PostHog's /flags failed")
        self.record(self._clock() - began, answered=bool(answered))

    @property
    def _slow(self) -> float:
        return SLOW if self.limits is None else self.limits.max_seconds

    def _fail(self, *, at_once: bool) -> None:
        self._failures_in_a_row += 1
        if self._failures_in_a_row < FAILURES and not at_once and not self.paused:
            return
        now = self._clock()
        self._due = now + (PAUSE if self.limits is None else self.limits.pause) * random.uniform(1.0, 1.25)
        if self._paused_at is None:
            self._paused_at = now
            _log.warning(
                "%s: requests to PostHog (%d in a row), for flags that cannot be decided locally, failed or took over"
                " %.0f s: such flags read as their defaults, and PostHog is asked again in %.0f s",
                prefix(),
                self._failures_in_a_row,
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
        self._failures_in_a_row, self._paused_at = 0, None


_calls: weakref.WeakKeyDictionary[object, RemoteCalls] = weakref.WeakKeyDictionary()


def calls_of(client: object) -> RemoteCalls:
    """Return the requests of this client."""
    return _calls.get(client) or _calls.setdefault(client, RemoteCalls())


def limit(client: object, limits: Limits) -> None:
    """Set other limits for the requests of this client."""
    calls_of(client).limits = limits


def on_event_loop() -> bool:
    """Whether the calling thread runs an event loop, which a request would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
