"""A short-lived process: from its start to its first flag, compared with a bare `GET` of the same definitions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.contestants.contestant import Contestant
from benchmarks.contestants.fresh import repeat
from benchmarks.runner.model import Case, Measure, Question, Readings, Scale
from benchmarks.runner.servers import Servers

__all__ = ["QUESTION"]

_NO_POLLS = 30.0
"""Seconds between two polls: none happens during the measurement."""

_MODULES = {
    "none": ("benchmarks.contestants.alone", "ALONE"),
    "example": ("benchmarks.contestants.example", "EXAMPLE"),
    "bare": ("benchmarks.contestants.example", "BARE"),
    "reader": ("benchmarks.contestants.sharing", "READER"),
}
"""The module of each contestant, for a process that imports only that one."""

_FILLED_BY = {"example": "example", "bare": "example", "reader": "attached"}
"""The contestant whose worker fills the store that this one reads."""


def _cases(scale: Scale) -> Sequence[Case]:
    times = 2 if scale.quick else 10
    return [Case(f"{flags:,} flags", times, flags) for flags in ((20,) if scale.quick else (200, 2_000))]


def _play(servers: Servers, contestant: Contestant, case: Case) -> Readings:
    filler, config = _FILLED_BY.get(contestant.name), servers.worker_config(interval=_NO_POLLS)
    with servers.fleet(filler or contestant.name, 1 if filler else 0, interval=_NO_POLLS) as fleet:
        fleet.load()
        words = ["-m", "benchmarks.contestants.function", *_MODULES[contestant.name], json.dumps(asdict(config))]
        return repeat(words, case.workers)


QUESTION = Question(
    name="serverless",
    title="A function's cold start: from its start to its first flag, compared with a bare GET of the definitions",
    measures=(
        Measure("after_imports", "connect, read, adopt, evaluate", "seconds"),
        Measure("on_top", "the same and the contestant's imports, on top of the SDK's and redis-py's", "seconds"),
        Measure("whole_process", "the same and all imports", "seconds"),
    ),
    cases=_cases,
    play=_play,
    contestants=tuple(_MODULES),
    drawn=("after_imports",),
    repeats=2,
)
