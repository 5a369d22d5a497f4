"""The log of a command: one line a transition, for people or for programs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from enum import Enum
from typing import cast

from typing_extensions import override

from flagcache.events import Event
from flagcache.vendor import Difference

__all__ = ["logging_to_stderr"]

_NAME = "flagcache"
"""The logger to which events are written, and the parent of all others here."""

_MOST = 50
"""Of a list, so many are shown."""


@contextmanager
def logging_to_stderr(*, as_json: bool) -> Generator[None]:
    """While this lasts, whatever flagcache logs from INFO on goes to stderr, a line each.

    Args:
        as_json: each line is one object, with the fields of the event that it tells.
    """
    logger, handler = logging.getLogger(_NAME), logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Plain())
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


class _Plain(logging.Formatter):
    """`2026-01-31 23:59:59.000Z WARNING what happened`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    @override
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _utc(record.created).replace("T", " ")


class _Json(logging.Formatter):
    """One object a line."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        event = _event_of(record)
        line: dict[str, object] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "event": type(event).__name__ if event is not None else "Log",
            "message": record.getMessage(),
        }
        if event is not None:
            line |= {key: _short(value) for key, value in vars(event).items() if key not in line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=_plain)


def _event_of(record: logging.LogRecord) -> Event | None:
    """The event that a line tells, which `flagcache.events.log_events` leaves in it."""
    args = record.args
    told = args[0] if isinstance(args, tuple) and len(args) == 1 else None
    return told if isinstance(told, Event) else None


def _short(value: object) -> object:
    """Without what would make a line too long: a first fetch adds every flag that there is."""
    if isinstance(value, Difference):
        return {key: _short(inner) for key, inner in value._asdict().items()}
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[object]", value)
        return [*items[:_MOST], *([f"... and {len(items) - _MOST} more"] if len(items) > _MOST else [])]
    return value


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else str(value)


def _utc(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
