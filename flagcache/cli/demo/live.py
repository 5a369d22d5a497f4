"""The table on a terminal: it changes in place, and events scroll above it."""

from __future__ import annotations

import time

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from flagcache.cli.demo.messages import Report
from flagcache.cli.demo.messages_text import value_name
from flagcache.cli.demo.screen import View, age, short, stamped

__all__ = ["LiveScreen"]


class LiveScreen:
    """A table that changes in place, below the events."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def line(self, text: str) -> None:
        """As `Screen.line`."""
        self._console.print(Text(text))

    def event(self, text: str) -> None:
        """As `Screen.event`."""
        self._console.print(Text(stamped(self._start, text), style="bold"))

    def show(self, view: View) -> None:
        """As `Screen.show`."""
        self._live.update(_table(view), refresh=True)


def _table(view: View) -> Table:
    table = Table(box=SIMPLE_HEAD, show_footer=True, pad_edge=False)
    alone = view.counts.alone()
    table.add_column("worker")
    table.add_column("role")
    table.add_column("version")
    table.add_column("age", justify="right")
    table.add_column(short(view.counts.flag()) or "flag", Text("all together\nbilled as"), min_width=12)
    table.add_column("requests", Text(f"{view.shared.requests}\n{view.shared.billed}", "bold"), justify="right")
    table.add_column("if alone", Text(f"{alone.requests}\n{alone.billed}"), justify="right")
    for report in view.counts.all():
        killed = view.counts.is_killed(report.pid)
        table.add_row(*_cells(report, killed=killed), style="dim" if killed else "")
    return table


def _cells(report: Report, *, killed: bool) -> list[str | Text]:
    role = "killed" if killed else report.role
    value = value_name(report.value)
    return [
        str(report.pid),
        Text(role, {"leader": "bold green", "killed": "red"}.get(role, "")),
        report.version[:8],
        "" if killed else age(report),
        Text("" if killed else short(value), "bold green" if value == "on" else ""),
        str(report.requests),
        str(report.polls),
    ]
