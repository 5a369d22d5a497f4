"""The texts of the demo. Pure: figures in, lines of at most 80 columns out."""

from __future__ import annotations

from dataclasses import dataclass

from flagcache.cli.demo.counts import Requests
from flagcache.cli.demo.messages import FlagValue, Report
from flagcache.cli.demo.options import DemoOptions

__all__ = [
    "Change",
    "DemoSetup",
    "Figures",
    "LeaderChange",
    "changed",
    "intro",
    "leader_changed",
    "number",
    "replaced",
    "summary",
    "times",
    "value_name",
]


@dataclass(frozen=True, slots=True)
class DemoSetup:
    """Where the demo runs."""

    host: str
    is_standin: bool
    url: str
    """URL of the workers' page."""
    store: str
    sdk: str


@dataclass(frozen=True, slots=True)
class Change:
    """A flag that changed, and how long it took until every worker evaluated it to the new value."""

    flag: str
    workers: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LeaderChange:
    """A leader that was killed, and how long it took until another worker led."""

    old: int
    new: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one run."""

    seconds: float
    shared: Requests
    alone: Requests
    change: Change | None
    """None for the user's own project, in which nothing is changed."""
    leader_change: LeaderChange
    flags_lost: int


def intro(options: DemoOptions, setup: DemoSetup) -> list[str]:
    """Return the text before the demo: what it shows, and where."""
    every = f"every {number(options.refresh)} s"
    posthog = (
        f"{setup.host} ({'a stand-in on this machine' if setup.is_standin else 'your project: the demo only reads it'})"
    )
    loaded = ", preloaded" if options.preload else ""
    return [
        f"flagcache demo: {options.workers} web workers, one set of PostHog feature flags",
        "",
        f"Alone, each worker's SDK would ask PostHog for the flags {every}.",
        "Here one worker, the leader, asks; the others get the answer from the store.",
        "",
        f"  PostHog  {posthog}",
        f"  workers  {options.workers} of gunicorn{loaded}, each with posthog {setup.sdk}",
        f"  store    {setup.store}",
        f"  try      curl {setup.url}",
        "",
    ]


def summary(options: DemoOptions, setup: DemoSetup, figures: Figures) -> list[str]:
    """Return the text after the demo: what it showed. Every figure was counted in this run."""
    shared, alone, leader_change = figures.shared, figures.alone, figures.leader_change
    counted = "counted by the stand-in" if setup.is_standin else "counted by the workers"
    lines = [
        "",
        f"Counted in these {figures.seconds:.1f} s, with {options.workers} workers:",
        "",
        _row("", f"{'shared':>6}  {'alone':>6}"),
        _row("requests to PostHog", f"{shared.requests:6}  {alone.requests:6}", counted),
        _row("billed flag requests", f"{shared.billed:6}  {alone.billed:6}", "10 when flags are sent, else 1"),
        "",
    ]
    if figures.change is not None:
        change = figures.change
        lines.append(_row("flag change to last worker", f"{change.seconds:6.1f} s", f"{change.workers} workers"))
    by = f"{leader_change.old}, then {leader_change.new}"
    return [
        *lines,
        _row("killed leader to next one", f"{leader_change.seconds:6.1f} s", by),
        _row("workers that lost flags", f"{figures.flags_lost:6}"),
        _row("store", f"  {setup.store}"),
        "",
        '"Alone" counts the polls of each worker\'s SDK: without the cache, each poll is a',
        "request to PostHog.",
    ]


def changed(change: Change) -> str:
    """Return the line for a change that has reached every worker."""
    return f"all {change.workers} workers have it {change.seconds:.1f} s later, from the store"


def replaced(worker: Report) -> str:
    """Return the line for a new worker that has its flags."""
    asked = f"after asking PostHog {times(worker.requests)}" if worker.requests else "without asking PostHog"
    return f"worker {worker.pid} replaces it, and has flags {asked}"


def leader_changed(leader_change: LeaderChange) -> str:
    """Return the line for a new leader."""
    return f"worker {leader_change.new} leads {leader_change.seconds:.1f} s later, because the old leader is silent"


def value_name(value: FlagValue) -> str:
    """Format a flag's value."""
    return "-" if value is None else value if isinstance(value, str) else "on" if value else "off"


def number(value: float) -> str:
    """Format a number as short text."""
    return f"{value:g}"


def times(count: int) -> str:
    """Format a count."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _row(name: str, figures: str, remark: str = "") -> str:
    return f"  {name:26}  {figures:14}  {remark}".rstrip()
