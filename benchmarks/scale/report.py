"""The simulated days as tables in Markdown and as plots."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict, cast

from benchmarks.cost import CONTESTANTS
from benchmarks.scale.plot import DARK, LIGHT, Line, Panel, svg
from benchmarks.scale.tally import Spread, Summary

__all__ = ["PushCase", "Results", "draw", "load", "size", "tables"]

_TITLES = {name: title.removesuffix(", at most") for name, (title, _) in CONTESTANTS.items()}


class PushCase(TypedDict):
    """One change, and how it reached an attached fleet."""

    workers: int
    flags: int
    payload: int
    """Bytes of the definitions in Redis."""
    gigabits: float
    """Gbit per second that Redis can send."""
    spread: float
    """Seconds over which the workers spread their reads."""
    timeout: float
    """Seconds after which a worker gives up a read."""
    first_to_last: float
    """Seconds from the first worker with the change to the last."""
    timeouts: int
    """Reads that were given up."""
    bytes_in_a_second: int | float
    """Bytes requested of Redis in the busiest second, whatever the network can carry."""
    reached: int
    """Workers that got the change."""


class Results(TypedDict):
    """The content of `results/scale.json`."""

    flagcache: str
    python: str
    flags: int
    sizes: dict[str, int]
    machine: dict[str, float]
    day: dict[str, object]
    days: dict[str, dict[str, Summary]]
    """By contestant and number of workers."""
    pushes: list[PushCase]


def load(path: Path) -> Results:
    """Read the results of a run."""
    return cast("Results", json.loads(path.read_text(encoding="utf-8")))


def tables(results: Results) -> str:
    """All tables."""
    parts = [_table(results, title, cell) for title, cell in _TABLES]
    if results["pushes"]:
        parts.append(_pushes(results["pushes"]))
    return "\n\n".join(parts)


def _table(results: Results, title: str, cell: Callable[[Summary], str]) -> str:
    sizes = list(next(iter(results["days"].values())))
    lines = [f"| {title} | " + " | ".join(f"{int(size):,}" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for name, days in results["days"].items():
        lines.append(f"| {_TITLES[name]} | " + " | ".join(cell(days[size]) for size in sizes) + " |")
    return "\n".join(lines)


def _pushes(cases: Sequence[PushCase]) -> str:
    """One row for each fleet and network, one column for each spread and timeout."""
    ways = list(dict.fromkeys((case["spread"], case["timeout"]) for case in cases))
    rows: dict[tuple[int, int, float], dict[tuple[float, float], PushCase]] = {}
    for case in cases:
        row = rows.setdefault((case["workers"], case["flags"], case["gigabits"]), {})
        row[case["spread"], case["timeout"]] = case
    titles = [f"spread {spread:g} s, timeout {timeout:g} s" for spread, timeout in ways]
    lines = [
        "| workers | flags (payload) | network | to be sent | " + " | ".join(titles) + " |",
        "|---" * (4 + len(ways)) + "|",
    ]
    for (workers, flags, gigabits), row in rows.items():
        payload = next(iter(row.values()))["payload"]
        cells = " | ".join(_push(row[way]) for way in ways)
        of_all = f"{flags:,} ({size(payload)}) | {gigabits:g} Gbit/s | {size(workers * payload)}"
        lines.append(f"| {workers:,} | {of_all} | {cells} |")
    return "\n".join(lines)


def _push(case: PushCase) -> str:
    given_up = f" ({case['timeouts']:,} given up)" if case["timeouts"] else ""
    return _time(case["first_to_last"]) + given_up


def draw(results: Results, folder: Path) -> None:
    """Write the plots: `scale-light.svg` and `scale-dark.svg`."""
    panels = (
        Panel("Flag requests a day", _lines(results, lambda day: float(day["flag_requests"]))),
        Panel("Bytes out of Redis a day", _lines(results, lambda day: float(day["bytes_from_store"]))),
    )
    for name, theme in (("light", LIGHT), ("dark", DARK)):
        (folder / f"scale-{name}.svg").write_text(svg(panels, theme), encoding="utf-8")


def _lines(results: Results, value: Callable[[Summary], float]) -> tuple[Line, ...]:
    """One line for each contestant that has such values."""
    lines: list[Line] = []
    for name, days in results["days"].items():
        points = tuple((float(size), value(day)) for size, day in days.items() if value(day) > 0)
        if points:
            lines.append(Line(name, _TITLES[name], points))
    return tuple(lines)


def _requests(day: Summary) -> str:
    return f"{day['api_requests']:,}" + (f" ({day['limited']:,})" if day["limited"] else "")


def _pair(spread: Spread, show: Callable[[float], str]) -> str:
    return f"{show(spread['p50'])} / {show(spread['max'])}" if spread["count"] else "-"


def _p99(spread: Spread) -> str:
    return f"{_time(spread['p50'])} / {_time(spread['p99'])}" if spread["count"] else "-"


def _count(n: float) -> str:
    return f"{n:,.0f}"


def _time(seconds: float) -> str:
    if seconds < 0.001:
        return "< 1 ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < 100 else f"{seconds:,.0f} s"


def size(n: float) -> str:
    """Format a number of bytes for readers."""
    for unit in ("B", "KB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}" if n < 99.5 else f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:,.3g} GB"


_TABLES: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("requests to PostHog a day (refused: 429)", _requests),
    ("flag requests a day", lambda day: f"{day['flag_requests']:,}"),
    ("store operations a second, p50 / peak", lambda day: _pair(day["operations_a_second"], _count)),
    ("bytes out of Redis a second, p50 / peak", lambda day: _pair(day["bytes_a_second"], size)),
    ("a change at PostHog until a worker has it, p50 / p99", lambda day: _p99(day["change_to_worker"])),
    ("a change from the first worker to the last, p50 / max", lambda day: _pair(day["change_first_to_last"], _time)),
    ("a worker's start to its first flags, p50 / max", lambda day: _pair(day["start_to_flags"], _time)),
)
