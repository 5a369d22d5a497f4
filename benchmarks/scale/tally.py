"""The counts of a simulated day: requests, store operations and bytes per second, and how fast changes spread."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import TypedDict

from benchmarks.cost import COST_OF_DEFINITIONS
from benchmarks.statistics import percentile

__all__ = ["Spread", "Summary", "Tally"]


class Spread(TypedDict):
    """The distribution of some durations or numbers."""

    count: int
    p50: float
    p99: float
    max: float


class Summary(TypedDict):
    """One simulated day of one contestant."""

    api_requests: int
    full: int
    unchanged: int
    limited: int
    """Refused by PostHog, because this team had sent too many requests in that minute (429)."""
    unanswered: int
    """Made while PostHog was down."""
    flag_requests: int
    api_requests_in_a_second: int
    """At most."""
    store_operations: int
    operations_a_second: Spread
    bytes_to_store: int
    bytes_from_store: int
    bytes_a_second: Spread
    """Out of Redis."""
    notices: int
    timeouts: int
    """Calls of Redis that ran into a worker's timeout."""
    change_to_worker: Spread
    """Seconds from a change at PostHog to each worker, without the outages."""
    change_first_to_last: Spread
    """Seconds from the first worker that has a change to the last, without the outages."""
    change_in_outage: Spread
    """Seconds from a change made in an outage, of Redis or PostHog, to each worker."""
    start_to_flags: Spread
    """Seconds from a worker's start to its first flags."""


class Tally:
    """The counters of one day.

    Args:
        length: seconds.
        changes: when PostHog began to serve new definitions.
        in_outage: indexes of the changes that fell into an outage.
    """

    def __init__(self, length: float, changes: Sequence[float], in_outage: frozenset[int] = frozenset()) -> None:
        seconds = math.ceil(length) + 1
        self._operations = array("L", bytes(8 * seconds))
        self._sent = array("Q", bytes(8 * seconds))
        self._received = array("Q", bytes(8 * seconds))
        self._requests = array("L", bytes(8 * seconds))
        self._changes = tuple(changes)
        self._in_outage = in_outage
        self._statuses: Counter[int] = Counter()
        self._delays = [array("f") for _ in changes]
        self._first_flags = array("f")
        self.notices = 0
        self.timeouts = 0

    def asked_posthog(self, now: float, status: int) -> None:
        """PostHog received a request."""
        self._statuses[status] += 1
        self._requests[int(now)] += 1

    def asked_redis(self, now: float, received: int, sent: int, operations: int = 1) -> None:
        """Redis received and sent these numbers of bytes for this number of operations."""
        second = int(now)
        self._operations[second] += operations
        self._received[second] += received
        self._sent[second] += sent

    def told(self, now: float, subscribers: int, size: int) -> None:
        """Redis sent a notice to all these subscribers."""
        self.notices += subscribers
        self._sent[int(now)] += subscribers * size

    def took(self, now: float, version: int, started: float) -> None:
        """A worker that started at `started` uses this version from now on."""
        if version > 1 and started < self._changes[version - 2]:
            self._delays[version - 2].append(now - self._changes[version - 2])

    def has_flags(self, now: float, started: float) -> None:
        """A worker that started at `started` has its first flags now."""
        self._first_flags.append(now - started)

    def summary(self) -> Summary:
        """Return all counts of the day."""
        full, unchanged = self._statuses[200], self._statuses[304]
        ordinary = [delays for i, delays in enumerate(self._delays) if i not in self._in_outage]
        return Summary(
            api_requests=sum(self._statuses.values()),
            full=full,
            unchanged=unchanged,
            limited=self._statuses[429],
            unanswered=self._statuses[503],
            flag_requests=COST_OF_DEFINITIONS * full + unchanged,
            api_requests_in_a_second=max(self._requests),
            store_operations=sum(self._operations),
            operations_a_second=_spread(self._operations[:-1]),
            bytes_to_store=sum(self._received),
            bytes_from_store=sum(self._sent),
            bytes_a_second=_spread(self._sent[:-1]),
            notices=self.notices,
            timeouts=self.timeouts,
            change_to_worker=_spread([delay for delays in ordinary for delay in delays]),
            change_first_to_last=_spread([max(delays) - min(delays) for delays in ordinary if delays]),
            change_in_outage=_spread([delay for i in self._in_outage for delay in self._delays[i]]),
            start_to_flags=_spread(self._first_flags),
        )


def _spread(values: Sequence[float]) -> Spread:
    ordered = sorted(values) or [0.0]
    p50, p99, most = (round(float(percentile(ordered, percent)), 4) for percent in (50, 99, 100))
    return Spread(count=len(values), p50=p50, p99=p99, max=most)
