"""Which pushes a process makes at once, and which a little later, together. Pure.

Each push is a poll of every attached client, and any client of the store with the right to publish can ask for one. A
token bucket limits them. What is asked while the bucket is empty is not lost: one push follows once a token is back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from flagcache.core.token_bucket import TokenBucket

__all__ = ["PendingPush"]

_BURST = 5
"""How many pushes may follow one another at once."""

_PERIOD = 1.0
"""Seconds in which one more may follow; half a refresh interval if that is shorter."""


class PendingPush(NamedTuple):
    """The push that a process was asked for and has not made yet, if any. Times are of its own clock."""

    bucket: TokenBucket
    contend: bool | None = None
    """Whether it contends for the lease; None: no push is pending."""

    @classmethod
    def none(cls, interval: float) -> PendingPush:
        """No push is pending, and the bucket is full; `interval` is the refresh interval in seconds."""
        return cls(TokenBucket(_BURST, min(_PERIOD, interval / 2)))

    @property
    def due_at(self) -> float:
        """When the pending push is due; `math.inf`: none is pending."""
        return math.inf if self.contend is None else self.bucket.ready_at

    def asked(self, *, contend: bool) -> PendingPush:
        """Ask for a push. It stands for all that were asked since the last one, and contends if any of them does."""
        return self._replace(contend=contend or bool(self.contend))

    def made(self, now: float) -> PendingPush:
        """The pending push is made."""
        return PendingPush(self.bucket.taken(now))
