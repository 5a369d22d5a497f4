"""Token bucket: limits how often others can make a process do something. Pure.

A full bucket holds a few tokens, so a burst passes at once. Then one token comes back each period.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["TokenBucket"]


class TokenBucket(NamedTuple):
    """A token bucket, full at first. Times are seconds of the process's own clock."""

    burst: int
    """Tokens in a full bucket."""
    period: float
    """Seconds in which one token comes back."""
    full_at: float = -math.inf
    """When the bucket is full again."""

    @property
    def ready_at(self) -> float:
        """When the next token is available."""
        return self.full_at - (self.burst - 1) * self.period

    def taken(self, now: float) -> TokenBucket:
        """Return the bucket with one token less."""
        return self._replace(full_at=max(self.full_at, now) + self.period)
