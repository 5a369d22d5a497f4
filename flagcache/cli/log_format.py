"""The log of a command: one line for each transition, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import cast

from typing_extensions import override

__all__ = ["logging_to_stderr"]

_NAME = "flagcache"
"""The logger for events, and the parent of all other loggers here."""


@contextmanager
def logging_to_stderr(*, as_json: bool) -> Generator[None]:
    """Write flagcache's log from INFO on to stderr inside the `with` block, one line for each record.

    Args:
        as_json: write each line as one object, with the fields of its event.
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
    """One JSON object per line."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        fields = cast("dict[str, object] | None", getattr(record, "flagcache", None))
        line: dict[str, object] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "event": fields["event"] if fields else "Log",
            "message": record.getMessage(),
        }
        if fields:
            line |= {key: value for key, value in fields.items() if key not in line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _utc(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
