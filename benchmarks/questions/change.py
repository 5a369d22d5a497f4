"""A flag changes at PostHog while the fleet is warm: when does each worker have the new value?"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contestants import worker
from benchmarks.contestants.contestant import Contestant
from benchmarks.contestants.fleet import Fleet
from benchmarks.contestants.registry import EVERYBODY
from benchmarks.runner.model import Case, Measure, Question, Readings, Scale
from benchmarks.runner.servers import Servers

__all__ = ["QUESTION", "arrivals"]

_CHANGES = 4
_PATIENCE = 10.0
"""Intervals within which a change must have reached all workers."""


def _cases(scale: Scale) -> Sequence[Case]:
    workers = scale.fleet(20)
    return [
        Case(f"{workers} workers, {flags:,} flags", workers, flags)
        for flags in ((20,) if scale.quick else (200, 2_000))
    ]


def _play(servers: Servers, contestant: Contestant, case: Case) -> Readings:
    first_to_last: list[float] = []
    after_first: list[float] = []
    after_change: list[float] = []
    with servers.fleet(contestant.name, case.workers) as fleet:
        fleet.warm_up(servers.spread(case.workers))
        for number in range(_CHANGES):
            revision = servers.change()
            fleet.wait_for(revision, _PATIENCE * servers.interval)
            if number == 0:
                continue  # the warm-up
            seen = arrivals(fleet, revision)
            first_to_last.append(max(seen) - min(seen))
            after_first += [at - min(seen) for at in seen]
            after_change.append(max(seen) - servers.changed_at())
    return {"first_to_last": first_to_last, "after_first": after_first, "last_after_change": after_change}


def arrivals(fleet: Fleet, revision: int) -> list[float]:
    """Return the time when each living worker first got this revision."""
    return [min(at for at, seen in history if seen == revision) for history in fleet.call(worker.history)]


QUESTION = Question(
    name="change",
    title="A flag changes: from the first worker that has it to the last",
    measures=(
        Measure("first_to_last", "first worker to last", "seconds"),
        Measure("after_first", "first worker to each", "seconds"),
        Measure("last_after_change", "change at PostHog to last worker", "seconds"),
    ),
    cases=_cases,
    play=_play,
    contestants=EVERYBODY,
    drawn=("first_to_last",),
    repeats=2,
)
