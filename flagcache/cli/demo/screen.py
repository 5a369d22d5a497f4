"""The output of the demo: `live` on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import Self

from flagcache.cli.demo.counts import Counts, Requests
from flagcache.cli.demo.messages import Report
from flagcache.cli.demo.messages_text import value_name

__all__ = ["PlainScreen", "Screen", "View", "age", "make_screen", "short", "stamped"]

_SUM_EVERY = 2.0  # seconds between two lines with sums, without a table
_LONGEST_NAME = 20  # columns for a flag's key or value


@dataclass(frozen=True, slots=True)
class View:
    """One moment of the demo."""

    counts: Counts
    shared: Requests


class Screen(Protocol):
    """The output of the demo during the `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def line(self, text: str) -> None:
        """Print a line."""
        ...

    def event(self, text: str) -> None:
        """Print an event, with the time since the start."""
        ...

    def show(self, view: View) -> None:
        """Show the current state."""
        ...


def make_screen(*, plain: bool) -> Screen:
    """Choose the screen for stdout."""
    fit = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if plain or not fit:
        return PlainScreen()
    from flagcache.cli.demo.live import LiveScreen  # noqa: PLC0415 - needs the extra, and only here

    return LiveScreen()


class PlainScreen:
    """A line for each event and for each worker whose state changed."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._shown: dict[int, tuple[object, ...]] = {}
        self._next_sum = _SUM_EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def line(self, text: str) -> None:
        """As `Screen.line`."""
        print(text, flush=True)

    def event(self, text: str) -> None:
        """As `Screen.event`."""
        self.line(stamped(self._start, text))

    def show(self, view: View) -> None:
        """As `Screen.show`."""
        for report in view.counts.with_flags():
            state = (report.role, report.version, report.value)
            if self._shown.get(report.pid) != state:
                self._shown[report.pid] = state
                self.event("  worker " + _plain_row(report))
        if time.monotonic() - self._start >= self._next_sum:
            self._next_sum += _SUM_EVERY
            alone = view.counts.alone()
            self.event(f"  requests to PostHog: {view.shared.requests}, alone {alone.requests}")


def stamped(start: float, text: str) -> str:
    """Put the time since the start before an event."""
    return f"{time.monotonic() - start:5.1f} s  {text}"


def age(report: Report) -> str:
    """Format the time since PostHog last sent or confirmed a worker's definitions."""
    return "-" if report.age is None else f"{report.age:.1f} s"


def short(name: str) -> str:
    """Shorten a name to the column's width."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "..."


def _plain_row(report: Report) -> str:
    flag, value = short(report.flag), short(value_name(report.value))
    return f"{report.pid:<7} {report.role:<8}  {report.version[:8]}  age {age(report):>6}  {flag} {value}"
