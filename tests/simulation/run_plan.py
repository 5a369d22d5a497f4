"""The plan of a run, drawn from its seed: the participants and the kinds of faults."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from flagcache.settings import Settings
from tests.simulation.world import ProcessKind

__all__ = ["VARIANTS", "RunPlan", "draw"]


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run, as drawn from its seed."""

    seed: int
    mode: str
    """`attached`, `protocol` or `mixed`."""
    kinds: tuple[ProcessKind, ...]
    hosts: int
    refresh: float
    """The longest refresh interval of any process."""
    length: float
    """Seconds during which faults occur."""
    troubles: tuple[str, ...]
    """The kinds of faults that occur."""
    every: float
    """Mean seconds between two faults."""
    signed: bool = False
    """All processes have the same signing key."""

    def __str__(self) -> str:
        """Return the run as one line of text."""
        refreshers = sum(kind.refresher for kind in self.kinds)
        count = f"{len(self.kinds)} workers" + (f" ({refreshers} refreshers)" if refreshers else "")
        return (
            f"seed {self.seed}: {count}, {self.mode}{', signed' * self.signed}, {self.hosts} hosts with a fallback,"
            f" refresh {self.refresh:g} s, {', '.join(self.troubles) or 'no trouble'}"
        )


def _with_refreshers(plan: RunPlan) -> RunPlan:
    """Return the same run, in which every third possible worker is a refresher."""
    kinds = (
        replace(kind, refresher=kind.attached and kind.has_key and not number % 3)
        for number, kind in enumerate(plan.kinds)
    )
    return replace(plan, kinds=tuple(kinds))


def _with_key(plan: RunPlan) -> RunPlan:
    """Return the same run, in which the fleet has a signing key."""
    return replace(plan, signed=True)


def _under_eviction(plan: RunPlan) -> RunPlan:
    """Return the same fleet, whose workers all listen, on a store that keeps nothing for long, without other faults."""
    settings = Settings(refresh_interval=plan.refresh)
    kinds = (
        replace(kind, settings=settings, poll_interval=plan.refresh, attached=True, has_key=True, listens=True)
        for kind in plan.kinds
    )
    return replace(plan, mode="attached", kinds=tuple(kinds), hosts=0, length=12 * plan.refresh, troubles=("evict",))


VARIANTS: dict[str, Callable[[RunPlan], RunPlan]] = {
    "refreshers": _with_refreshers,
    "evicting": _under_eviction,
    "signed": _with_key,
}
"""The variants of a run, by the name of the option."""


def draw(seed: int, troubles: Collection[str], *, smallest: int, largest: int) -> RunPlan:
    """Draw a run.

    Args:
        seed: decides the run.
        troubles: the kinds of faults.
        smallest: how many workers there are at least.
        largest: how many there may be.
    """
    rng = random.Random(f"plot {seed}")
    mode = rng.choice(("attached", "attached", "protocol", "mixed"))
    count = rng.randint(1, 6) if rng.random() < 0.9 else rng.randint(7, min(30, largest))
    if rng.random() < 0.01:
        count = rng.randint(min(30, largest), largest)
    count = max(count, smallest)
    refresh = rng.choice((5.0, 10.0, 30.0))
    poll = refresh / rng.choice((1, 1, 2, 3))
    hosts = rng.choice((0, 0, 1, 2))
    common = ProcessKind(_settings(rng, refresh), poll)
    kinds = tuple(_kind(rng, common, mode, max(1, hosts)) for _ in range(count))
    if mode == "mixed":
        kinds = _some_listen(random.Random(f"listening {seed}"), kinds)
    others = sorted(set(troubles) - {"late_news"})
    chosen = () if rng.random() < 0.1 else tuple(t for t in others if rng.random() < 0.3)
    timely = not {"step_clock", "pause_clock"} & set(chosen)  # otherwise no clock can order what only one process has
    if "late_news" in troubles and timely and random.Random(f"late news {seed}").random() < 0.3:
        chosen = (*chosen, "late_news")
    return RunPlan(
        seed=seed,
        mode=mode,
        kinds=kinds,
        hosts=hosts,
        refresh=max(kind.settings.refresh_interval for kind in kinds),
        length=refresh * (rng.randint(6, 24) if count < 10 else 6),
        troubles=chosen,
        every=refresh * rng.choice((0.2, 0.5, 1.0, 3.0)),
    )


def _some_listen(rng: random.Random, kinds: tuple[ProcessKind, ...]) -> tuple[ProcessKind, ...]:
    share = rng.choice((0.0, 0.5, 1.0))
    return tuple(replace(kind, listens=rng.random() < share) for kind in kinds)


def _settings(rng: random.Random, refresh: float) -> Settings:
    return Settings(refresh_interval=refresh, on_quota_limited="keep" if rng.random() < 0.2 else "clear")


def _kind(rng: random.Random, common: ProcessKind, mode: str, hosts: int) -> ProcessKind:
    attached = mode == "attached" or (mode == "mixed" and rng.random() < 0.6)
    settings, poll = common.settings, common.poll_interval
    if rng.random() < 0.1:
        settings = replace(settings, refresh_interval=settings.refresh_interval * rng.choice((0.5, 2.0)))
    has_key = not attached or rng.random() < 0.9
    settings = replace(settings, poll_interval=0.0 if attached else poll)
    return replace(
        common,
        settings=settings,
        poll_interval=min(poll, settings.refresh_interval),
        attached=attached,
        has_key=has_key,
        host=rng.randrange(hosts),
        pace=rng.uniform(2, 3),
    )
