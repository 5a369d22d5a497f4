"""Memory for definitions of N flags: in the leader and in a follower."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.contestants import worker
from benchmarks.contestants.contestant import Contestant, WorkerContext
from benchmarks.contestants.registry import EVERYBODY
from benchmarks.runner.model import Case, Measure, Question, Readings, Scale
from benchmarks.runner.servers import Servers
from flagcache_posthog.testing import make_definitions

__all__ = ["QUESTION", "Kept"]

_PATIENCE = 30.0
_SETTLED = 2.5
"""Intervals after the last worker has the definitions, when temporary memory is free again."""

_SMALL = 10
"""Number of flags with which a worker imports and connects everything before the measurement."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The growth of a process since `watch`, in bytes.

    Attributes:
        traced: of Python's objects, as `tracemalloc` counts them.
        peak: the highest value of `traced` at any time.
        resident: as the kernel counts.
    """

    traced: int
    peak: int
    resident: int


def _cases(scale: Scale) -> Sequence[Case]:
    sizes = (200,) if scale.quick else (200, 2_000)
    return [Case(f"{flags:,} flags", 2, _SMALL, str(flags)) for flags in sizes]


def _play(servers: Servers, contestant: Contestant, case: Case) -> Readings:
    readings: dict[str, list[float]] = {}
    with servers.fleet(contestant.name, case.workers) as fleet:
        fleet.warm_up([0.0])  # the first leads
        time.sleep(servers.interval)
        before = fleet.call(watch)
        servers.flags = int(case.variant)
        fleet.wait_for(servers.change(), _PATIENCE)
        time.sleep(_SETTLED * servers.interval)
        for role, kept in zip(("leader", "follower"), fleet.call(kept_since, before), strict=True):
            readings |= {f"{role}_{name}": [value] for name, value in asdict(kept).items()}
    encoded = json.dumps(make_definitions(servers.flags, revision=servers.revision), separators=(",", ":"))
    return {**readings, "json": [len(encoded)]}


def watch(_context: WorkerContext) -> int:
    """Count from now on; return the resident bytes."""
    gc.collect()
    tracemalloc.start()
    return worker.resident()


def kept_since(context: WorkerContext, before: Sequence[int]) -> Kept:
    """Return the growth since `watch`, which measured each worker."""
    gc.collect()
    traced, peak = tracemalloc.get_traced_memory()
    return Kept(traced, peak, worker.resident() - before[context.index])


QUESTION = Question(
    name="memory",
    title="Memory for definitions in a process, including the client's own copy",
    measures=(
        Measure("follower_traced", "kept by a follower", "bytes"),
        Measure("leader_traced", "kept by the leader", "bytes"),
        Measure("follower_peak", "most at any time, follower", "bytes"),
        Measure("leader_peak", "most at any time, leader", "bytes"),
        Measure("follower_resident", "growth of the resident memory, follower", "bytes"),
        Measure("leader_resident", "growth of the resident memory, leader", "bytes"),
        Measure("json", "the definitions as compact JSON", "bytes", exact=True),
    ),
    cases=_cases,
    play=_play,
    contestants=EVERYBODY,
    drawn=("follower_traced",),
)
