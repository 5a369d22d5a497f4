"""A failure that lasts, and when it is reported. Pure.

It is reported when it begins, when its reason changes or its level rises, and once an hour while it lasts. Each reason
is reported at most once an hour, so that one that comes and goes can't fill a log. Times are seconds of the process's
own clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["REPORTED_AGAIN_AFTER", "Trouble", "continued"]

REPORTED_AGAIN_AFTER = 3600.0
"""Seconds after which a lasting failure is reported again."""


class Trouble(NamedTuple):
    """One failure of one process."""

    reason: str
    """Its reason now, in one word, for example `posthog_401`."""
    since: float
    """When it began, whatever its reason was then."""
    said: Mapping[str, float] = MappingProxyType({})
    """When each of its reasons was last reported."""
    level: int = 0
    """The highest level at which it was reported; its end is reported at the same level."""


def continued(before: Trouble | None, reason: str, level: int, now: float) -> tuple[Trouble, bool]:
    """Return the failure as it is now, and whether to report it.

    Args:
        before: the same failure when it was last noted; None: it begins.
        reason: its reason now.
        level: the level at which this reason is reported.
        now: this process's own clock.
    """
    known = before or Trouble(reason, now)
    last = known.said.get(reason)
    if last is not None and now - last < REPORTED_AGAIN_AFTER and level <= known.level:
        return known._replace(reason=reason), False
    said = MappingProxyType({**known.said, reason: now})
    return Trouble(reason, known.since, said, max(known.level, level)), True
