"""Nothing changes: what does an interval cost PostHog, and a poll Redis and a worker, by number of flags?"""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.contestants import worker
from benchmarks.contestants.contestant import Contestant
from benchmarks.contestants.registry import EVERYBODY
from benchmarks.runner.model import Case, Measure, Question, Readings, Scale
from benchmarks.runner.servers import Servers, Traffic

__all__ = ["QUESTION"]

_WARM_UP, _MEASURED = 1.5, 5
"""Intervals that are dropped, and intervals that are measured, which begin and end in mid-interval."""


def _cases(scale: Scale) -> Sequence[Case]:
    sizes = (200,) if scale.quick else (10, 200, 2_000, 5_000)
    return [Case(f"{flags:,} flags", scale.fleet(10), flags) for flags in sizes]


def _play(servers: Servers, contestant: Contestant, case: Case) -> Readings:
    with servers.fleet(contestant.name, case.workers) as fleet:
        fleet.load()
        time.sleep(_WARM_UP * servers.interval)
        servers.posthog.reset_counts()
        before = fleet.call(worker.usage)
        traffic = Traffic(servers.redis)
        time.sleep(_MEASURED * servers.interval)
        through = traffic.so_far()
        counts = servers.posthog.counts()
        after = fleet.call(worker.usage)
    polls = sum(late.polls - early.polls for early, late in zip(before, after, strict=True))
    return {
        "requests": [counts.requests / _MEASURED],
        "flag_requests": [counts.flag_requests / _MEASURED],
        "bytes_out": [through["bytes_out"] / polls],
        "bytes_in": [through["bytes_in"] / polls],
        "round_trips": [through["round_trips"] / polls],
        "cpu": [
            (late.cpu - early.cpu) / max(1, late.polls - early.polls) for early, late in zip(before, after, strict=True)
        ],
        "resident": [late.resident for late in after],
        "polls": [polls],
    }


QUESTION = Question(
    name="steady",
    title="Nothing changes: what an interval costs PostHog, and a poll costs Redis and a worker",
    measures=(
        Measure("bytes_out", "bytes out of Redis per worker and poll", "bytes", exact=True),
        Measure("bytes_in", "bytes into Redis per worker and poll", "bytes", exact=True),
        Measure("round_trips", "Redis round trips per worker and poll", exact=True),
        Measure("requests", "API requests an interval", exact=True),
        Measure("flag_requests", "flag requests billed an interval", exact=True),
        Measure("cpu", "CPU of a worker per poll, all threads", "seconds"),
        Measure("resident", "resident memory of a worker", "bytes"),
        Measure("polls", "polls seen"),
    ),
    cases=_cases,
    play=_play,
    contestants=EVERYBODY,
    drawn=("bytes_out", "cpu"),
)
