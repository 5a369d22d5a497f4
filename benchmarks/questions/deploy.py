"""New workers replace the old ones: one by one, all at once, or as forks of a process that made the client before."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from benchmarks.contestants.contestant import Contestant, WorkerContext
from benchmarks.contestants.registry import ON_REDIS
from benchmarks.runner.model import Case, Measure, Question, Readings, Scale
from benchmarks.runner.servers import Servers

__all__ = ["QUESTION"]

_SETTLED, _MEASURED = 2.0, 4
"""Intervals that are dropped, and intervals over which requests are counted."""

_ROLLING, _AT_ONCE, _PRELOAD = "rolling", "at once", "preload"


def _cases(scale: Scale) -> Sequence[Case]:
    workers = scale.fleet(8)
    return [
        Case(f"{workers} workers, one by one", workers, 200, _ROLLING),
        Case(f"{workers} workers, all at once", workers, 200, _AT_ONCE),
        Case(f"{workers} forks of one that made the client (preload)", workers, 200, _PRELOAD),
    ]


def _play(servers: Servers, contestant: Contestant, case: Case) -> Readings:
    if case.variant == _PRELOAD:
        return _preload(servers, contestant, case.workers)
    with servers.fleet(contestant.name, case.workers) as fleet:
        fleet.warm_up(servers.spread(case.workers))
        time.sleep(_SETTLED * servers.interval)
        servers.posthog.reset_counts()
        began, old, times = time.monotonic(), list(fleet), list[float]()
        if case.variant == _AT_ONCE:
            for member in old:
                member.stop()
            times += fleet.load_members(fleet.join(case.workers))
        else:
            for member in old:
                times += fleet.load_members(fleet.join(1))
                member.stop()
        took, counts = time.monotonic() - began, servers.posthog.counts()
    return {
        "full_fetches": [counts.full_fetches],
        "flag_requests": [counts.flag_requests],
        "first_flag": times,
        "took": [took],
    }


def _preload(servers: Servers, contestant: Contestant, workers: int) -> Readings:
    with servers.fleet(contestant.name, 1) as fleet:
        fleet.load()
        fleet.members[0].call(fork, workers)
        time.sleep(_SETTLED * servers.interval)
        servers.posthog.reset_counts()
        time.sleep(_MEASURED * servers.interval)
        return {"requests": [servers.posthog.requests / _MEASURED]}


def fork(_context: WorkerContext, number: int) -> None:
    """Fork this many children, as a preloading server does: the SDK polls in each. They end with their parent."""
    parent = os.getpid()
    for _ in range(number):
        if os.fork() == 0:
            while os.getppid() == parent:
                time.sleep(0.1)
            os._exit(0)


QUESTION = Question(
    name="deploy",
    title="A deploy: full fetches while workers are replaced, and requests if the client was made before the fork",
    measures=(
        Measure("full_fetches", "full fetches while it lasts", exact=True),
        Measure("flag_requests", "flag requests billed while it lasts"),
        Measure("first_flag", "a new worker's time to first flag", "seconds"),
        Measure("took", "time it took", "seconds"),
        Measure("requests", "API requests an interval afterwards (preload)", exact=True),
    ),
    cases=_cases,
    play=_play,
    contestants=(*ON_REDIS, "attached-sqlite"),
    drawn=("full_fetches", "requests"),
)
