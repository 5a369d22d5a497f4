"""How often something may be done that others can ask for: pure.

A full bucket holds a few tokens, so that a burst passes at once; then one token comes back each period.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["TokenBucket"]


class TokenBucket(NamedTuple):
    """A token bucket, full at first. Times are seconds of the process's own clock."""

    burst: int
    period: float
    """Seconds in which one token comes back."""
    full_at: float = -math.inf
    """When it is full again."""

    @property
    def ready_at(self) -> float:
        """From when on a token is there."""
        return self.full_at - (self.burst - 1) * self.period

    def taken(self, now: float) -> TokenBucket:
        """The same with one token less."""
        return self._replace(full_at=max(self.full_at, now) + self.period)
