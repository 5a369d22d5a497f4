"""flagcache's targets, compared with a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["TARGETS", "Figures", "Target"]


class Figures:
    """The figures of a run, by name.

    Args:
        run: from `benchmarks.runner.results.load`.
    """

    def __init__(self, run: Mapping[str, Any]) -> None:
        self._rows = {
            (question, row["case"], row["contestant"], row["measure"]): row
            for question, answers in run["questions"].items()
            for row in answers["summary"]
        }

    def get(self, question: str, case: str, contestant: str, measure: str, figure: str = "p50") -> float:
        """Return one figure.

        Raises:
            KeyError: the run did not measure it.
        """
        return float(self._rows[question, case, contestant, measure][figure])


@dataclass(frozen=True, slots=True)
class Target:
    """One target.

    Attributes:
        title: its text.
        unit: as in `Measure`.
        at_most: the largest value that meets it.
        value: returns what was reached; raises `KeyError` if the run did not measure it.
    """

    title: str
    unit: str
    at_most: float
    value: Callable[[Figures], float]


def _cpu(figures: Figures) -> float:
    """A worker's CPU per poll, relative to the example's."""
    ours, theirs = (figures.get("steady", "2,000 flags", name, "cpu") for name in ("attached", "example"))
    return ours / theirs


def _function(figures: Figures) -> float:
    """A reader's cold start after all imports, relative to a bare GET and decode."""
    ours, theirs = (figures.get("serverless", "2,000 flags", name, "after_imports") for name in ("reader", "bare"))
    return ours / theirs


def _function_process(figures: Figures) -> float:
    """The same from the start of the process."""
    ours, theirs = (figures.get("serverless", "2,000 flags", name, "whole_process") for name in ("reader", "bare"))
    return ours / theirs


def _memory(figures: Figures) -> float:
    """The memory of a worker beyond a client alone, relative to the definitions' JSON."""
    kept = {
        name: max(figures.get("memory", "2,000 flags", name, f"{role}_traced") for role in ("leader", "follower"))
        for name in ("attached", "none")
    }
    return (kept["attached"] - kept["none"]) / figures.get("memory", "2,000 flags", "attached", "json")


TARGETS = (
    Target(
        "cold start of 50 workers: API requests",
        "",
        1,
        lambda figures: figures.get("cold_start", "50 workers", "attached", "requests", "max"),
    ),
    Target(
        "cold start of 50 workers: the slowest, relative to the one that fetched",
        "times",
        1.3,
        lambda figures: figures.get("cold_start", "50 workers", "attached", "slowest_to_leader"),
    ),
    Target(
        "unchanged poll, 2,000 flags: bytes out of Redis",
        "bytes",
        300,
        lambda figures: figures.get("steady", "2,000 flags", "attached", "bytes_out", "max"),
    ),
    Target(
        "unchanged poll, 2,000 flags: round trips, including a tenth of the leader's heartbeat",
        "",
        1.3,
        lambda figures: figures.get("steady", "2,000 flags", "attached", "round_trips"),
    ),
    Target("unchanged poll, 2,000 flags: CPU, relative to the example's", "times", 0.1, _cpu),
    Target(
        "a change, first to last of 20 workers, p99",
        "seconds",
        0.3,
        lambda figures: figures.get("change", "20 workers, 200 flags", "attached", "first_to_last", "p99"),
    ),
    Target("a function's cold start, 2,000 flags, relative to a bare GET and decode", "times", 1.3, _function),
    Target("the same with all imports", "times", 1.3, _function_process),
    Target(
        "import of flagcache, on top of the SDK's and redis-py's",
        "seconds",
        0.03,
        lambda figures: figures.get("imports", "a fresh process", "attached", "imported"),
    ),
    Target("memory at 2,000 flags beyond a client alone, relative to one encoded copy", "times", 1, _memory),
)
"""In the order of the report."""
