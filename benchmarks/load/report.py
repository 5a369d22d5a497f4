"""The tables of `results/load.json`, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypedDict, cast

from benchmarks.scale.report import size

__all__ = ["Load", "load", "tables"]

Row = dict[str, float]


class Load(TypedDict):
    """The content of `results/load.json`.

    Each list has the fields of the class of `measurements` that its name names.
    """

    flagcache: str
    python: str
    machine: str
    processors: int
    server: dict[str, object]
    """From Redis's `INFO`, at the end."""
    polls: list[Row]
    offered: list[Row]
    fan_out: list[Row]
    changes: list[Row]


def load(path: Path) -> Load:
    """Read the results of a run."""
    return cast("Load", json.loads(path.read_text(encoding="utf-8")))


def tables(results: Load) -> str:
    """Return all tables, with a blank line between two."""
    return "\n\n".join(
        [
            _polls(results["polls"]),
            _offered(results["offered"]),
            _fan_out(results["fan_out"]),
            _changes(results["changes"]),
        ]
    )


def _polls(rows: Sequence[Row]) -> str:
    return _table(
        ("unchanged polls a second of one core", "Redis's processor time for one", "bytes in / out"),
        (
            (
                f"{row['polls_a_second_of_one_core']:,.0f}",
                f"{row['cpu_per_poll'] * 1e6:.1f} µs",
                f"{row['bytes_in']:,.0f} / {row['bytes_out']:,.0f}",
            )
            for row in rows
        ),
    )


def _offered(rows: Sequence[Row]) -> str:
    return _across(
        rows, "connections", "polls_a_second", "{:,.0f} polls a second, p50 / p99", lambda row: _pair(row, "p50", "p99")
    )


def _fan_out(rows: Sequence[Row]) -> str:
    return _table(
        ("subscribers", "`PUBLISH` to the first", "to the last", "Redis's processor time"),
        ((f"{row['subscribers']:,}", _time(row["first"]), _time(row["last"]), _time(row["cpu"])) for row in rows),
    )


def _changes(rows: Sequence[Row]) -> str:
    head = (
        "workers",
        "flags (payload)",
        "spread",
        "first worker to last",
        "a read, p50 / p99",
        "reads over 1 s",
        "most within 100 ms",
        "Redis's processor time",
    )
    return _table(
        head,
        (
            (
                f"{row['workers']:,}",
                f"{row['flags']:,} ({size(row['payload'])})",
                f"{row['spread']:g} s",
                _time(row["first_to_last"]),
                _pair(row, "read_p50", "read_p99"),
                f"{row['late']:,}",
                size(row["peak_bytes"]),
                _time(row["cpu"]),
            )
            for row in rows
        ),
    )


def _across(rows: Sequence[Row], down: str, across: str, title: str, cell: Callable[[Row], str]) -> str:
    """One row for each value of one field, one column for each of another."""
    columns = list(dict.fromkeys(row[across] for row in rows))
    by_row: dict[float, dict[float, str]] = {}
    for row in rows:
        by_row.setdefault(row[down], {})[row[across]] = cell(row)
    return _table(
        (down, *(title.format(value) for value in columns)),
        ((f"{value:,}", *(cells.get(column, "") for column in columns)) for value, cells in by_row.items()),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _pair(row: Row, *names: str) -> str:
    return " / ".join(_time(row[name]) for name in names)


def _time(seconds: float) -> str:
    if seconds < 0.01:
        return f"{seconds * 1000:.2f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
