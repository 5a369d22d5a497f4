"""The base of all events: each has the name of its cache, a text and a level."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import Enum
from typing import cast

from flagcache.runtime.text import printable
from flagcache.runtime.values import Value

__all__ = ["Event", "Recovery", "listed", "shown"]

_MOST = 50
"""Number of items of a list in plain values: a first fetch adds every flag."""

_MOST_NAMES = 10
"""Number of items of a list in a log line."""


class Event(Value):
    """Something that happened to one cache. `str()` is the text of its log line."""

    namespace: str

    _level = logging.INFO

    @property
    def level(self) -> int:
        """The level of the log line, as in `logging`."""
        return self._level

    def as_dict(self) -> dict[str, object]:
        """Return plain values, for JSON: the name as `event`, and the fields; of a list, the first 50 items."""
        return {"event": type(self).__name__, **{name: _plain(value) for name, value in vars(self).items()}}


class Recovery(Event):
    """The end of a failure that this process reported.

    Its `level` is the highest at which the failure was reported, so it reaches the same readers.
    """

    lasted: float
    """Seconds from the beginning of the failure to its end."""
    trouble: str
    """Its last reason, in one word (`flagcache.status.Status.trouble`)."""
    loss_level: int

    @property
    def level(self) -> int:
        """The level at which the failure was reported."""
        return self.loss_level


def listed(names: Sequence[str]) -> str:
    """Format names for the log: the first ten."""
    more = len(names) - _MOST_NAMES
    return ", ".join(map(printable, names[:_MOST_NAMES])) + (f" and {more} more" if more > 0 else "")


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    fields = cast("Callable[[], dict[str, object]] | None", getattr(value, "_asdict", None))
    if fields is not None:  # a named tuple
        return {name: _plain(part) for name, part in fields().items()}
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[object]", value)
        more = len(items) - _MOST
        return [*map(_plain, items[:_MOST]), *([f"... and {more} more"] if more > 0 else [])]
    return value


def shown(seconds: float) -> str:
    """Format a duration: `0.4 s`, `38 s`, `7 min`, `3 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
