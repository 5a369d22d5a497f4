"""The figures in the README, made from the JSON of a run, and their place in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.runner.report import with_unit
from benchmarks.runner.targets import Figures

__all__ = ["BEGIN", "END", "SHOWN", "embedded", "headline"]

BEGIN, END = "<!-- figures: python -m benchmarks report -->", "<!-- end of figures -->"
"""The lines of the README between which the table of `headline` is."""

CONTESTANTS = ("none", "example", "republishing", "attached")


@dataclass(frozen=True, slots=True)
class Shown:
    """One row of the table.

    Attributes:
        title: its first cell.
        question: the name of the question.
        case: the question's case.
        measure: the case's measure.
        figure: the measure's figure.
        unit: as in `Measure`.
    """

    title: str
    question: str
    case: str
    measure: str
    figure: str = "p50"
    unit: str = ""


_STEADY, _REDIS_GONE = "2,000 flags", "Redis gone, then back and empty"

SHOWN = (
    Shown("cold start of 50 workers: requests to PostHog", "cold_start", "50 workers", "requests"),
    Shown("unchanged poll, 2,000 flags: bytes out of Redis", "steady", _STEADY, "bytes_out", unit="bytes"),
    Shown("unchanged poll, 2,000 flags: CPU of the worker", "steady", _STEADY, "cpu", unit="seconds"),
    Shown(
        "a change, first of 20 workers to last (p99)",
        "change",
        "20 workers, 200 flags",
        "first_to_last",
        "p99",
        "seconds",
    ),
    Shown(
        "leader killed (`kill -9`): all others have the next change after",
        "leader",
        "killed (kill -9)",
        "reached",
        unit="seconds",
    ),
    Shown("Redis gone, 10 workers: requests to PostHog an interval", "outage", _REDIS_GONE, "requests"),
    Shown("Redis frozen: a new worker has its flags after", "outage", "Redis frozen", "new_worker", unit="seconds"),
    Shown(
        "Redis flushed as five new workers start: their full fetches",
        "outage",
        "Redis flushed as 5 new workers start",
        "full_fetches",
    ),
    Shown(
        "leader frozen in mid-fetch, then thawed: workers that returned to older flags",
        "leader",
        "frozen in mid-fetch, thawed later",
        "thrown_back",
    ),
    Shown(
        "gunicorn `--preload`, 8 workers: requests an interval",
        "deploy",
        "8 forks of one that made the client (preload)",
        "requests",
    ),
)
"""The rows, in the order of the table."""


def headline(run: Mapping[str, Any]) -> str:
    """Return the table in Markdown; a cell is empty if a contestant was not asked.

    Args:
        run: from `benchmarks.runner.results.load`.
    """
    figures, names = Figures(run), run["contestants"]
    titles = [names[name]["title"] for name in CONTESTANTS]
    lines = ["| | " + " | ".join(titles) + " |", "|---|" + "--:|" * len(titles)]
    for shown in SHOWN:
        cells = [_cell(figures, shown, name) for name in CONTESTANTS]
        lines.append("| " + " | ".join([shown.title, *cells]) + " |")
    return "\n".join(lines)


def embedded(text: str, run: Mapping[str, Any]) -> str:
    """Return a text with the table in its place.

    Args:
        text: has the two lines around the table.
        run: from `benchmarks.runner.results.load`.

    Raises:
        ValueError: the lines are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no place for the figures: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{headline(run)}\n{END}{after}"


def _cell(figures: Figures, shown: Shown, contestant: str) -> str:
    try:
        value = figures.get(shown.question, shown.case, contestant, shown.measure, shown.figure)
    except KeyError:
        return ""
    return with_unit(value, shown.unit)
