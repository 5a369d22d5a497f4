"""A process that comes and goes: from its start to its first flag, beside a bare `GET` of the same definitions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.contestants.contestant import Contestant, Place
from benchmarks.model import Case, Measure, Question, Readings, Scale
from benchmarks.stage import Stage

__all__ = ["QUESTION"]

_NO_POLLS = 30.0
"""Seconds between two polls: none falls into what is measured."""

_HOMES = {
    "none": ("benchmarks.contestants.alone", "ALONE"),
    "example": ("benchmarks.contestants.example", "EXAMPLE"),
    "bare": ("benchmarks.contestants.example", "BARE"),
    "reader": ("benchmarks.contestants.sharing", "READER"),
}
"""Where each contestant is, for a process that imports this one alone."""

_FILLED_BY = {"example": "example", "bare": "example", "reader": "attached"}
"""Whose worker fills the store that a contestant reads."""


def _cases(scale: Scale) -> Sequence[Case]:
    times = 2 if scale.quick else 10
    return [Case(f"{flags:,} flags", times, flags) for flags in ((20,) if scale.quick else (200, 2_000))]


def _play(stage: Stage, contestant: Contestant, case: Case) -> Readings:
    filler, place = _FILLED_BY.get(contestant.name), stage.place(interval=_NO_POLLS)
    with stage.fleet(filler or contestant.name, 1 if filler else 0, interval=_NO_POLLS) as fleet:
        fleet.load()
        told = [_run(contestant, place) for _ in range(case.workers + 1)][1:]  # the first warms the page cache
    return {name: [each[name] for each in told] for name in told[0]}


def _run(contestant: Contestant, place: Place) -> dict[str, float]:
    """Start one function, alone on the machine, and wait for its end."""
    words = [sys.executable, "-m", "benchmarks.function", *_HOMES[contestant.name], json.dumps(asdict(place))]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=120)
    told: dict[str, float] = json.loads(done.stdout)
    return told


QUESTION = Question(
    name="serverless",
    title="A function's cold start: from its start to its first flag, beside a bare GET of the definitions",
    measures=(
        Measure("after_imports", "connect, read, adopt, evaluate", "seconds"),
        Measure("on_top", "the same and the contestant's imports, on top of the SDK's and redis-py's", "seconds"),
        Measure("whole_process", "the same and all imports", "seconds"),
    ),
    cases=_cases,
    play=_play,
    contestants=tuple(_HOMES),
    drawn=("after_imports",),
)
