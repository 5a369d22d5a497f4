"""Plays a question: the contestants in turn, in a different order each round, without the warm-up rounds."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contestants.contestant import Contestant
from benchmarks.contestants.registry import CONTESTANTS
from benchmarks.runner.model import Case, Question, Readings, Scale
from benchmarks.runner.servers import Servers

__all__ = ["Record", "play"]

_API_SECONDS = 0.3
"""Seconds that PostHog takes to answer."""

_QUICK_API_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Record:
    """One play that counts.

    Attributes:
        case: its name.
        contestant: its name.
        round: the number of the turn, from 0.
        readings: all samples; none if it failed.
        failed: the reason, if it failed.
        redis: Redis's `INFO` at the end.
    """

    case: str
    contestant: str
    round: int
    readings: Readings
    failed: str = ""
    redis: dict[str, Any] = field(default_factory=dict[str, Any])


def play(question: Question, scale: Scale, names: Sequence[str]) -> list[Record]:
    """Ask a question.

    A round plays every case with every contestant. The order of the contestants rotates by one each round, so that
    other work of the machine affects all alike. Questions with short plays have several such turns in each round.

    Args:
        question: the question.
        scale: the size of the run.
        names: of the contestants; those that can't answer this question are left out.
    """
    asked = [CONTESTANTS[name] for name in question.contestants if name in names]
    records: list[Record] = []
    first = -1 if question.warm_up and not scale.quick else 0
    turns = scale.rounds if scale.quick else scale.rounds * question.repeats
    for number in range(first, turns):
        for case in question.cases(scale):
            for contestant in _rotated(asked, number):
                _print(f"{question.name}: turn {number + 1} of {turns}, {case.name}, {contestant.title}")
                record = _play_one(question, scale, case, contestant, number)
                if number >= 0:
                    records.append(record)
    return records


def _rotated(contestants: Sequence[Contestant], by: int) -> list[Contestant]:
    start = by % len(contestants) if contestants else 0
    return [*contestants[start:], *contestants[:start]]


def _play_one(question: Question, scale: Scale, case: Case, contestant: Contestant, number: int) -> Record:
    began = time.monotonic()
    servers = Servers(
        case.flags,
        interval=scale.interval,
        delay=_QUICK_API_SECONDS if scale.quick else _API_SECONDS,
        seed=f"{scale.seed}/{question.name}/{case.name}/{number}",  # the same for all contestants
    )
    try:
        with servers:
            readings = question.play(servers, contestant, case)
            redis_info = servers.redis_info()
    except Exception as exc:  # noqa: BLE001 - a failed play is reported, and does not end hours of other plays
        failed = "".join(traceback.format_exception_only(exc)).strip()
        _print(f"  failed: {failed}")
        return Record(case.name, contestant.name, number, {}, failed=failed)
    _print(f"  {time.monotonic() - began:.1f} s")
    return Record(case.name, contestant.name, number, readings, redis=redis_info)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
