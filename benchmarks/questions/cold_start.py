"""N workers start at once on an empty store: what does PostHog see, and when does each worker have its flags?"""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.contestants.contestant import Contestant, key_of
from benchmarks.contestants.registry import EVERYBODY
from benchmarks.runner.model import Case, Measure, Question, Readings, Scale
from benchmarks.runner.servers import Servers
from flagcache_posthog.testing import key_digest

__all__ = ["QUESTION"]

_NO_POLLS = 30.0
"""Seconds between two polls: none happens during the measurement."""

_AFTERMATH = 0.5
"""Seconds after the last worker within which a late request would still be counted."""


def _cases(scale: Scale) -> Sequence[Case]:
    if scale.quick or scale.workers:
        return [_case(scale.fleet(20))]
    return [_case(20), _case(50)]


def _case(workers: int) -> Case:
    return Case(f"{workers} workers", workers, flags=200)


def _play(servers: Servers, contestant: Contestant, case: Case) -> Readings:
    with servers.fleet(contestant.name, case.workers, interval=_NO_POLLS) as fleet:
        times = fleet.load()
        time.sleep(_AFTERMATH)
    counts = servers.posthog.counts()
    first = servers.definition_requests()[0].key_digest
    leader = next(seconds for index, seconds in enumerate(times) if key_digest(key_of(index)) == first)
    return {
        "requests": [counts.requests],
        "flag_requests": [counts.flag_requests],
        "first_flag": times,
        "slowest": [max(times)],
        "slowest_to_leader": [max(times) / leader],
    }


QUESTION = Question(
    name="cold_start",
    title="A cold start of N workers: requests to PostHog, and the time until each evaluates its first flag",
    measures=(
        Measure("requests", "API requests", exact=True),
        Measure("flag_requests", "flag requests billed", exact=True),
        Measure("first_flag", "time to first flag", "seconds"),
        Measure("slowest", "slowest worker", "seconds"),
        Measure("slowest_to_leader", "slowest, relative to the worker that asked first", "times"),
    ),
    cases=_cases,
    play=_play,
    contestants=EVERYBODY,
    drawn=("requests", "slowest"),
    warm_up=True,
    repeats=3,
)
