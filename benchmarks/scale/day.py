"""The day of each simulated fleet: a start, deploys, changes, crashes, and two outages."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.scale.others import Alone, Leased
from benchmarks.scale.ours import Ours
from benchmarks.scale.stores import Sizes, World
from benchmarks.scale.tally import Summary, Tally
from benchmarks.scale.world import Down, Machine, PostHog, Timeline

__all__ = ["CONTESTANTS", "Day", "live"]

_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Day:
    """The events of a day. Times are seconds since it began."""

    length: float = 86_400.0
    poll_interval: float = 30.0
    """Of each process: the SDK's default. A fleet asks PostHog at the same interval."""
    start: float = 1.0
    """Seconds within which all processes start for the first time, with an empty Redis."""
    deploys: tuple[float, ...] = tuple((36 + 72 * i) * _MINUTE for i in range(20))
    deploy: float = 5 * _MINUTE
    """Duration of a deploy, which replaces the processes in a random order."""
    overlap: float = 1.0
    """Seconds for which a process and the one that replaces it both run."""
    changes: tuple[float, ...] = tuple(m * _MINUTE + 7.3 for m in (100, 230, 360, 490, 620, 750, 845, 1000, 1140, 1270))
    """When PostHog begins to serve new definitions."""
    crashes: tuple[float, ...] = tuple((50 + 140 * i) * _MINUTE + 11.1 for i in range(10))
    """When a process is killed (`kill -9`). Every second time it is the leader."""
    restart: float = 5.0
    """Seconds until the killed process is replaced."""
    redis_down: Down = field(default_factory=lambda: Down(840 * _MINUTE, 850 * _MINUTE))
    """Redis comes back empty."""
    posthog_down: Down = field(default_factory=lambda: Down(990 * _MINUTE, 1010 * _MINUTE))
    """PostHog answers 503."""
    seed: int = 1

    @property
    def in_outage(self) -> frozenset[int]:
        """Which changes fall into an outage."""
        downs = (self.redis_down, self.posthog_down)
        return frozenset(i for i, at in enumerate(self.changes) if any(down.at(at) for down in downs))


class Process(Protocol):
    """A process of any contestant."""

    def end(self, now: float, *, politely: bool) -> None:
        """End."""
        ...


class Fleet(Protocol):
    """A fleet of any contestant."""

    def start(self, now: float, place: int) -> Process:
        """Start one process."""
        ...

    def leads(self, process: Process) -> bool:
        """Whether this process fetches for all."""
        ...


CONTESTANTS: dict[str, Callable[[World], Fleet]] = {
    "none": Alone,
    "example": lambda world: Leased(world, lease=60.0),
    "republishing": lambda world: Leased(world, lease=2 * world.poll_interval, republishes=True),
    "protocol": lambda world: Ours(world, attached=False),
    "attached": lambda world: Ours(world, attached=True),
}
"""By the names that they have in the other benchmarks."""


def live(
    make: Callable[[World], Fleet], workers: int, sizes: Sizes, day: Day | None = None, machine: Machine | None = None
) -> Summary:
    """Simulate a fleet's day and return the counts.

    Args:
        make: creates the fleet.
        workers: number of its processes.
        sizes: of the definitions.
        day: its events.
        machine: the capacity of Redis.
    """
    day = day or Day()
    timeline, tally = Timeline(), Tally(day.length, day.changes, day.in_outage)
    world = World(
        timeline=timeline,
        tally=tally,
        posthog=PostHog(tally, day.changes, day.posthog_down),
        machine=machine or Machine(),
        sizes=sizes,
        redis_down=day.redis_down,
        poll_interval=day.poll_interval,
        rng=random.Random(day.seed),
    )
    _Operator(day, timeline, make(world), workers).config()
    timeline.run(day.length)
    return tally.summary()


class _Operator:
    """Starts, replaces and kills processes."""

    def __init__(self, day: Day, timeline: Timeline, fleet: Fleet, workers: int) -> None:
        self._day = day
        self._timeline = timeline
        self._fleet = fleet
        self._workers = workers
        self._rng = random.Random(f"operator {day.seed}")
        self._processes: dict[int, Process] = {}

    def config(self) -> None:
        """Plan the whole day."""
        for place in range(self._workers):
            self._start_at(self._rng.uniform(0.001, self._day.start), place)
        for begins in self._day.deploys:
            self._timeline.at(begins, self._deploy)
        for i, at in enumerate(self._day.crashes):
            self._timeline.at(at, self._crash_leader if i % 2 else self._crash_any)

    def _start_at(self, at: float, place: int) -> None:
        self._timeline.at(at, lambda now: self._start(now, place))

    def _start(self, now: float, place: int) -> None:
        self._processes[place] = self._fleet.start(now, place)

    def _deploy(self, now: float) -> None:
        """A new process is started before the old one is stopped."""
        for place in range(self._workers):
            self._replace_at(now + self._rng.uniform(0, self._day.deploy), place)

    def _replace_at(self, at: float, place: int) -> None:
        self._timeline.at(at, lambda now: self._replace(now, place))

    def _replace(self, now: float, place: int) -> None:
        old = self._processes.get(place)
        self._start(now, place)
        if old is not None:
            self._timeline.at(now + self._day.overlap, lambda then: old.end(then, politely=True))

    def _crash_any(self, now: float) -> None:
        self._kill(now, self._rng.randrange(self._workers))

    def _crash_leader(self, now: float) -> None:
        leaders = [place for place, process in self._processes.items() if self._fleet.leads(process)]
        self._kill(now, leaders[0] if leaders else self._rng.randrange(self._workers))

    def _kill(self, now: float, place: int) -> None:
        process = self._processes.get(place)
        if process is not None:
            process.end(now, politely=False)
            self._start_at(now + self._day.restart, place)
