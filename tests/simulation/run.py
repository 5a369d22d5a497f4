"""One run: a fleet, its faults, a quiet end, and the rules that were broken.

python -m tests.simulation.run --seed 42            replay one run, with its trace
python -m tests.simulation.run --runs 5000 --jobs 2   try many, from --first on
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from flagcache.encoding.protection import PLAIN, Signed
from flagcache.settings import SLOW_FETCH
from tests.simulation.faults import TROUBLES, FaultInjector
from tests.simulation.oracle import Oracle
from tests.simulation.posthog import PostHog
from tests.simulation.run_plan import VARIANTS, RunPlan, draw
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_fleet import Fleet, Process
from tests.simulation.stores import Network, SharedStore
from tests.simulation.threads import simulated
from tests.simulation.world import World

__all__ = ["Outcome", "main", "simulate"]

_KEY = "the signing key of a simulated fleet"

_LONGEST_NOTE = 60.0
"""Seconds for which PostHog's failures in a run may keep a fleet from fetching."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one run."""

    plan: RunPlan
    faults: tuple[str, ...]
    trace: tuple[str, ...]
    steps: int
    grants: int
    replay: str
    """The command that runs the same again."""

    def __str__(self) -> str:
        """Return it as text, with the end of the trace."""
        lines = [str(self.plan), *(f"  {line}" for line in self.trace), *(f"  FAULT {fault}" for fault in self.faults)]
        return "\n".join([*lines, f"  replay: {self.replay}"])


def simulate(
    seed: int,
    *,
    smallest: int = 1,
    largest: int = 200,
    trace: int = 40,
    variants: Collection[str] = (),
) -> Outcome:
    """Run the fleet and the faults of this seed; stops at the first broken rule.

    Args:
        seed: decides everything.
        smallest: the fewest workers.
        largest: the most workers.
        trace: how many lines of the trace are kept.
        variants: names in `run_plan.VARIANTS`, by which the run differs from the drawn one.
    """
    random.seed(seed)
    plan = draw(seed, set(TROUBLES) - {"evict"}, smallest=smallest, largest=largest)
    for name in variants:
        plan = VARIANTS[name](plan)
    run = _Run(plan, trace)
    with simulated(now=lambda: run.scheduler.now, report=run.oracle.report, on_fetched=run.oracle.on_fetched):
        run.go()
        options = [f"--smallest {smallest} --largest {largest}", *(f"--{name}" for name in variants)]
        outcome = run.outcome(" ".join(options))
        run.scheduler.close()
    return outcome


class _Run:
    def __init__(self, plan: RunPlan, trace: int) -> None:
        self.plan = plan
        self.scheduler = Scheduler()
        self.trace: deque[str] = deque(maxlen=trace)
        self._rng = random.Random(f"run {plan.seed}")
        posthog = PostHog(self.scheduler, self._rng)
        self.oracle = Oracle(self.scheduler, posthog)
        network = Network(self._rng)
        shared = partial(SharedStore, scheduler=self.scheduler, network=network, signed=plan.signed)
        fleet_store, hosts = shared("fleet"), tuple(shared(f"host {i}") for i in range(plan.hosts))
        self.world = World(self.scheduler, posthog, network, self.oracle, fleet_store, hosts, self._note)
        self.world.protection = Signed(_KEY) if plan.signed else PLAIN
        self.oracle.confused, self.oracle.disordered = self.world.confused, self.world.disordered
        self.oracle.note = self._note
        self.fleet = Fleet(self.world)

    def outcome(self, options: str) -> Outcome:
        """Return the result so far; `options` are those of the plan."""
        replay = f"python -m tests.simulation.run --seed {self.plan.seed} {options}"
        scheduler, oracle = self.scheduler, self.oracle
        return Outcome(self.plan, tuple(oracle.faults), tuple(self.trace), scheduler.steps, oracle.grants, replay)

    def _note(self, line: str) -> None:
        self.trace.append(f"{self.scheduler.now:9.3f} {line}")

    def go(self) -> None:
        plan, injector = self.plan, FaultInjector(self.plan, self.fleet)
        for kind in plan.kinds:
            self.fleet.add(kind, delay=self._rng.expovariate(1.0))
        self.scheduler.after(self._rng.uniform(0, plan.refresh), injector.begin)
        self._run_for(plan.length)
        injector.end()
        self._note("--- quiet")
        if not self.fleet.alive:
            self.fleet.add(plan.kinds[0])
        self._run_for(_LONGEST_NOTE + SLOW_FETCH + self._convergence_time())
        self._check_converged("after all troubles ended")
        self.oracle.quiet = True
        if self.oracle.faults:
            return
        self._change()
        self._run_for(self._convergence_time())
        self._check_converged("after a change in quiet times")

    def _run_for(self, seconds: float) -> None:
        if not self.oracle.faults:
            self.scheduler.run(self.scheduler.now + seconds, lambda: bool(self.oracle.faults))

    def _convergence_time(self) -> float:
        """Return the seconds in which a change must reach all: two refresh intervals, or two challenge times."""
        refresh = self.plan.refresh
        return 2 * refresh + 1 if self.plan.mode == "attached" else 2 * 10 * refresh + 2 * refresh

    def _change(self) -> None:
        posthog = self.world.posthog
        back = self._rng.random() < 0.4 and posthog.content > 1
        posthog.change(posthog.content - 1 if back else posthog.newest + 1)
        self._note(f"--- PostHog serves {posthog.content}")

    def _check_converged(self, when: str) -> None:
        content = self.world.posthog.content
        behind = [process.name for process in self.fleet.alive if not self._converged(process, content)]
        if behind and not self.oracle.faults and not self._excused(content):
            self.oracle.report(f"rule 11: {', '.join(behind)} do not hold {content} {when}")

    def _excused(self, content: int) -> bool:
        """Return whether no worker can fetch it, or one that is refused permanently prevents the others: a known limit.

        A grant is due by its asker's own refresh interval since the latest grant of any worker. In a fleet of unequal
        intervals the grants of a process that asks more often can leave no time for the others. So can, on an empty
        store, those of an attached process, which contends at any moment, while all others contend only at their SDK's
        polls.
        """
        alive = self.fleet.alive
        able = [process for process in alive if self._can_fetch(process, content)]
        refused = [process.kind for process in alive if process.name in self.world.posthog.bad_keys]
        longest = max(process.kind.settings.refresh_interval for process in alive)
        unequal = any(kind.settings.refresh_interval < longest for kind in refused)
        empty = self.world.fleet.state.meta is None and not any(process.kind.attached for process in able)
        return not able or unequal or (empty and any(kind.attached for kind in refused))

    def _converged(self, process: Process, content: int) -> bool:
        """Return whether it uses this content, or was just emptied by its own SDK, whose key is refused (fact 7)."""
        refused = process.name in self.world.posthog.bad_keys and not process.kind.attached
        return process.converged(content) or (refused and not process.sdk.content)

    def _can_fetch(self, process: Process, content: int) -> bool:
        """Whether its fetch brings the content to the fleet.

        An SDK whose entity tag is up to date gets "unchanged", and reports nothing, whatever the fleet holds.
        """
        if process.name in self.world.posthog.bad_keys:
            return False
        if process.kind.attached:
            return process.kind.has_key
        epoch = self.world.fleet.state.epoch
        useful = process.sdk.content == content and process.held is not None and process.held.meta.epoch == epoch
        # Its "unchanged" reaches no other worker, so what it has spreads only by its age, which clocks may have
        # falsified.
        useful = useful and not self.world.confused()
        return process.sdk.etag != f"E{content}" or useful


def main(arguments: list[str] | None = None) -> int:
    """Run simulations from the command line."""
    parser = argparse.ArgumentParser(description="Simulate fleets and judge them by the truth.")
    parser.add_argument("--seed", type=int, help="replay this run")
    parser.add_argument("--first", type=int, default=0, help="the first seed of many")
    parser.add_argument("--runs", type=int, default=1000, help="how many runs")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--smallest", type=int, default=1, help="how many workers a run has at least")
    parser.add_argument("--largest", type=int, default=200, help="how many it may have")
    for name, change in VARIANTS.items():
        parser.add_argument(f"--{name}", action="append_const", const=name, dest="variants", help=change.__doc__)
    parser.add_argument("--trace", type=int, default=200, help="how many lines of what happened are shown")
    options = parser.parse_args(arguments)
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.runs)
    one = partial(
        simulate,
        smallest=options.smallest,
        largest=options.largest,
        trace=options.trace,
        variants=options.variants or (),
    )
    return 1 if _try(seeds, options.jobs, one) else 0


def _try(seeds: range | list[int], jobs: int, one: Callable[[int], Outcome]) -> int:
    began, failed, steps, grants = time.monotonic(), 0, 0, 0
    outcomes = map(one, seeds) if len(seeds) == 1 else ProcessPoolExecutor(jobs).map(one, seeds, chunksize=8)
    for outcome in outcomes:
        steps, grants = steps + outcome.steps, grants + outcome.grants
        if outcome.faults:
            failed += 1
            print(outcome)  # noqa: T201 - a command's job is to print
        elif len(seeds) == 1:
            print(outcome)  # noqa: T201
    spent = time.monotonic() - began
    print(f"{len(seeds)} runs, {failed} with faults; {steps} steps, {grants} grants, {spent:.0f} s")  # noqa: T201
    return failed


if __name__ == "__main__":
    sys.exit(main())
