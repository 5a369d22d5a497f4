"""The world of a simulated day: virtual time, PostHog, and the times that one Redis needs.

All times are seconds since the day began. Nothing waits: `Timeline` goes from one event to the next. `ours` and
`others` contain what each contestant does, `tally` the counts.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.cost import LIMIT_FULL, LIMIT_UNCHANGED
from benchmarks.scale.tally import Tally

__all__ = ["Answer", "Down", "Link", "Machine", "Polling", "PostHog", "Timeline"]


@dataclass(frozen=True, slots=True)
class Machine:
    """The capacity of one Redis and its network. It determines how long a push takes; the counts don't depend on it."""

    round_trip: float = 0.0005
    """Round trip between a worker and Redis, in seconds."""
    script: float = 15e-6
    """Seconds of its one thread for a poll (65,000 polls a second)."""
    notice: float = 5e-6
    """Seconds of its one thread for a notice to one subscriber."""
    bandwidth: float = 1.25e9
    """Bytes per second that it can send: 10 Gbit/s. Concurrent reads of a payload share it evenly."""
    timeout: float = 1.0
    """Seconds after which a worker gives up a call (`store_timeout`)."""
    fetch: float = 0.3
    """Seconds that PostHog takes to answer."""


class Polling(Protocol):
    """A process that polls."""

    def poll(self, now: float) -> None:
        """Make the poll that is due now, and plan the next one."""
        ...


class Timeline:
    """The calendar of the simulation: planned calls, in order.

    All polls of a fleet have the same interval, so most of them happen in the order in which they were planned. These
    are in a queue; only what is due before the queue's end is sorted in.
    """

    def __init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._line: deque[tuple[float, Polling]] = deque()
        self._numbers = itertools.count()

    def at(self, time: float, happens: Callable[[float], None]) -> None:
        """Plan a call, which gets the time. Calls for the same time happen in the order in which they were planned."""
        heapq.heappush(self._events, (time, next(self._numbers), happens))

    def poll_at(self, time: float, process: Polling) -> None:
        """Plan a poll of this process."""
        if self._line and time < self._line[-1][0]:
            self.at(time, process.poll)
        else:
            self._line.append((time, process))

    def run(self, until: float) -> None:
        """Make all calls that are planned before this time."""
        events, line = self._events, self._line
        while True:
            event_at = events[0][0] if events else math.inf
            if line and line[0][0] < event_at:
                if line[0][0] >= until:
                    return
                time, process = line.popleft()
                process.poll(time)
                continue
            if event_at >= until:
                return
            time, _, happens = heapq.heappop(events)
            happens(time)


@dataclass(frozen=True, slots=True)
class Down:
    """The time in which something is down."""

    begins: float = math.inf
    ends: float = math.inf

    def at(self, now: float) -> bool:
        """Whether it is down now."""
        return self.begins <= now < self.ends


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of PostHog."""

    status: int
    """200: definitions; 304: unchanged; 429: too many requests; 503: PostHog is down."""
    version: int
    """The number of the definitions that it serves."""


@dataclass(slots=True)
class PostHog:
    """The vendor's server: it serves version 1 first, and the next one after each change.

    Its limits hold for one team: answers with definitions per minute, and answers without.
    """

    tally: Tally
    changes: tuple[float, ...]
    down: Down = field(default_factory=Down)
    full_limit: int = LIMIT_FULL
    unchanged_limit: int = LIMIT_UNCHANGED
    _minute: int = -1
    _full: int = 0
    _unchanged: int = 0
    _version: int = 1

    def version_at(self, now: float) -> int:
        """Return the version that it serves. Time must not go back."""
        while self._version <= len(self.changes) and self.changes[self._version - 1] <= now:
            self._version += 1
        return self._version

    def request(self, now: float, known: int | None) -> Answer:
        """One request for definitions.

        Args:
            now: when it arrives.
            known: the version in its entity tag; None if it has none.
        """
        version = self.version_at(now)
        if self.down.at(now):
            status = 503
        elif known == version:
            status = 304
        else:
            status = 200
        if self._is_too_many(now, status):
            status = 429
        self.tally.asked_posthog(now, status)
        return Answer(status, version)

    def _is_too_many(self, now: float, status: int) -> bool:
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._full, self._unchanged = minute, 0, 0
        if status == 200:
            self._full += 1
            return self._full > self.full_limit
        if status == 304:
            self._unchanged += 1
            return self._unchanged > self.unchanged_limit
        return False


class Link:
    """The outgoing link of Redis: concurrent transfers share it evenly.

    `_each` is the number of bytes that a transfer would have received if it had always been under way. So a transfer
    ends when `_each` has grown by its size.

    Args:
        timeline: has the time.
        bandwidth: bytes per second.
    """

    def __init__(self, timeline: Timeline, bandwidth: float) -> None:
        self._timeline = timeline
        self._bandwidth = bandwidth
        self._ends: list[tuple[float, int, _Transfer]] = []
        self._numbers = itertools.count()
        self._under_way = 0
        self._each = 0.0
        self._each_at = 0.0
        self._config = 0

    def send(self, now: float, size: int, deadline: float, done: Callable[[float, bool], None]) -> None:
        """Send this number of bytes.

        Args:
            now: when it begins.
            size: bytes.
            deadline: when the reader gives up.
            done: called with the time of the end, and whether all bytes arrived.
        """
        self._go_on(now)
        transfer = _Transfer(done)
        heapq.heappush(self._ends, (self._each + size, next(self._numbers), transfer))
        self._under_way += 1
        self._timeline.at(deadline, lambda then: self._give_up(then, transfer))
        self._look_ahead(now)

    def _go_on(self, now: float) -> None:
        if self._under_way:
            self._each += (now - self._each_at) * self._bandwidth / self._under_way
        self._each_at = now

    def _look_ahead(self, now: float) -> None:
        """Plan the end of the next transfer; earlier plans are void."""
        self._config += 1
        config = self._config
        while self._ends and self._ends[0][2].over:
            heapq.heappop(self._ends)
        if self._ends:
            left = max(0.0, self._ends[0][0] - self._each)
            self._timeline.at(now + left * self._under_way / self._bandwidth, lambda then: self._end(then, config))

    def _end(self, now: float, config: int) -> None:
        if config != self._config:
            return
        self._go_on(now)
        _, _, transfer = heapq.heappop(self._ends)
        self._close(now, transfer, arrived=True)

    def _give_up(self, now: float, transfer: _Transfer) -> None:
        if not transfer.over:
            self._go_on(now)
            self._close(now, transfer, arrived=False)

    def _close(self, now: float, transfer: _Transfer, *, arrived: bool) -> None:
        transfer.over = True
        self._under_way -= 1
        self._look_ahead(now)
        transfer.done(now, arrived)


@dataclass(slots=True, eq=False)
class _Transfer:
    done: Callable[[float, bool], None]
    over: bool = False
