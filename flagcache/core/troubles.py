"""A trouble that lasts, and when it is said: pure.

It is said when it begins, when its reason changes or it becomes graver, and once an hour while it lasts; each reason at
most once an hour, so that one that comes and goes cannot fill a log. Times are seconds of the process's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["SAID_AGAIN_AFTER", "Trouble", "continued"]

SAID_AGAIN_AFTER = 3600.0
"""Seconds after which a trouble that lasts is said again."""


class Trouble(NamedTuple):
    """One trouble of one process."""

    reason: str
    """What it is now, in one word: `posthog_401`, say."""
    since: float
    """When it began, whatever its reason was then."""
    said: Mapping[str, float] = MappingProxyType({})
    """When each of its reasons was said last."""
    level: int = 0
    """The highest level at which it was said: its end is said at the same."""


def continued(before: Trouble | None, reason: str, level: int, now: float) -> tuple[Trouble, bool]:
    """Take note of a trouble that is there now; and whether to say it.

    Args:
        before: the same trouble when it was noted last; None: it begins.
        reason: what it is now.
        level: the level at which that is said.
        now: this process's own clock.
    """
    known = before or Trouble(reason, now)
    last = known.said.get(reason)
    if last is not None and now - last < SAID_AGAIN_AFTER and level <= known.level:
        return known._replace(reason=reason), False
    said = MappingProxyType({**known.said, reason: now})
    return Trouble(reason, known.since, said, max(known.level, level)), True
