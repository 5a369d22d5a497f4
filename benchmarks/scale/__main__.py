"""A simulated day of fleets of 10 to 10,000 workers: their load on PostHog and Redis, how fast changes spread.

    python -m benchmarks.scale                  everything, into results/scale.json and plots: about 20 minutes
    python -m benchmarks.scale --sizes 10 100   fewer and smaller fleets: seconds
    python -m benchmarks.scale --draw           only the plots and tables, from the existing JSON

flagcache's part is its own pure core (`worker`); the other providers are models of their code (`others`). The counts
depend on the seed alone, not on the machine. The time that a push takes depends on the assumptions about Redis
(`world.Machine`), which `benchmarks.load` has measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.scale.day import CONTESTANTS, Day, live
from benchmarks.scale.ours import Ours
from benchmarks.scale.report import PushCase, Results, draw, load, tables
from benchmarks.scale.stores import Sizes
from benchmarks.scale.world import Down, Machine
from flagcache._version import __version__
from flagcache.encoding import payload as envelope
from flagcache_posthog.definitions import PostHogVendor
from flagcache_posthog.testing import make_definitions

__all__ = ["FLAGS", "GIGABIT", "RESULTS", "main", "measure", "push", "run"]

RESULTS = Path(__file__).parents[1] / "results" / "scale.json"

SIZES = (10, 30, 100, 300, 1000, 3000, 10_000)

FLAGS = 200
"""Number of flags of the simulated project."""

PUSHES = ((1000, 200), (3000, 200), (10_000, 200), (1000, 2000), (3000, 2000), (10_000, 2000))
"""Workers and flags of the fleets in which a single change is measured."""

WAYS = ((0.0, 1.0), (0.05, 1.0), (1.0, 1.0), (0.05, 5.0))
"""Seconds over which reads are spread, and the timeout of one read. The second pair is the library's."""

GIGABIT = 1.25e8
"""Bytes a second."""


def measure(flags: int) -> Sizes:
    """Return the sizes of the definitions of this many flags."""
    served = make_definitions(flags)
    definitions = PostHogVendor().check(served)
    payload = envelope.encode(definitions, envelope.digest(definitions))
    return Sizes(json=len(json.dumps(served)), envelope=len(payload))


def push(workers: int, flags: int, *, gigabits: float, spread: float, timeout: float = 1.0) -> PushCase:
    """Simulate one change in a fleet of attached workers in which nothing else happens.

    Args:
        workers: their number.
        flags: number of flags in the definitions.
        gigabits: what Redis can send per second.
        spread: seconds over which the workers spread their reads.
        timeout: seconds after which a worker gives up a read (`store_timeout`).
    """
    day = Day(
        length=240.0, start=60.0, deploys=(), changes=(100.0,), crashes=(), redis_down=Down(), posthog_down=Down()
    )
    sizes = measure(flags)
    machine = Machine(bandwidth=gigabits * GIGABIT, timeout=timeout)
    summary = live(lambda world: Ours(world, attached=True, spread=spread), workers, sizes, day, machine)
    return PushCase(
        workers=workers,
        flags=flags,
        payload=sizes.envelope,
        gigabits=gigabits,
        spread=spread,
        timeout=timeout,
        first_to_last=summary["change_first_to_last"]["max"],
        timeouts=summary["timeouts"],
        bytes_in_a_second=summary["bytes_a_second"]["max"],
        reached=summary["change_to_worker"]["count"],
    )


def run(sizes: Sequence[int], pushes: Sequence[tuple[int, int]], save: Callable[[Results], object]) -> None:
    """Simulate everything, the small fleets first.

    Args:
        sizes: numbers of workers of the fleets of which a day is simulated.
        pushes: workers and flags of the fleets in which a single change is measured.
        save: called with all results so far after each simulation.
    """
    day, of_flags = Day(), measure(FLAGS)
    results = Results(
        flagcache=__version__,
        python=platform.python_version(),
        flags=FLAGS,
        sizes=asdict(of_flags),
        machine=asdict(Machine()),
        day={**asdict(day), "redis_down": asdict(day.redis_down), "posthog_down": asdict(day.posthog_down)},
        days={name: {} for name in CONTESTANTS},
        pushes=[],
    )
    for workers, flags in pushes:
        _say(f"a change, {workers:,} workers, {flags} flags")
        for gigabits, (spread, timeout) in itertools.product((1.0, 10.0), WAYS):
            case = push(workers, flags, gigabits=gigabits, spread=spread, timeout=timeout)
            results["pushes"].append(case)
    for workers in sorted(sizes):
        for name, make in CONTESTANTS.items():
            _say(f"{name}, {workers:,} workers")
            results["days"][name][str(workers)] = live(make, workers, of_flags, day)
        save(results)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, write the JSON, and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description="A simulated day of fleets of many sizes."
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="workers of the fleets")
    parser.add_argument("--draw", action="store_true", help="don't simulate: draw the results in the JSON")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the JSON; plots are put beside it")
    options = parser.parse_args(arguments)
    if not options.draw:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        pushes = [case for case in PUSHES if case[0] <= max(options.sizes)]
        run(options.sizes, pushes, lambda some: options.out.write_text(json.dumps(some, indent=1) + "\n"))
    results = load(options.out)
    draw(results, options.out.parent)
    print(tables(results))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
