"""Circuit breaker: when to call a store that failed again. Pure.

A failing store costs one timeout. Then the breaker is open and calls cost nothing, until one caller probes (half-open).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["CircuitBreaker", "in_charge", "longest_pause"]


class CircuitBreaker(NamedTuple):
    """The breaker of one store. Times are seconds of the process's own clock."""

    failures: int = 0
    """Number of failed calls since the last successful one."""
    retry_at: float = 0.0
    """The store is not called before this time."""

    @property
    def open(self) -> bool:
        """Whether the last call failed."""
        return self.failures > 0

    @property
    def probe_at(self) -> float:
        """When to probe the store, if the last call failed; `math.inf` if it didn't."""
        return self.retry_at if self.open else math.inf

    def admitted(self, now: float, *, longest: float) -> CircuitBreaker | None:
        """Return the breaker after it let a caller through; None if the store may not be called now.

        The caller of an open breaker probes: no other caller does meanwhile, for at most `longest` seconds.
        """
        if now < self.retry_at:
            return None
        return self._replace(retry_at=now + longest) if self.open else self

    def failed(self, now: float, *, longest: float, jitter: float) -> CircuitBreaker:
        """Return the breaker after one more failed call.

        Args:
            now: own clock.
            longest: seconds after which a probe is due at the latest.
            jitter: a random number from 0 to 1, so that a fleet does not probe in step.
        """
        pause = min(longest, 0.5 * 2 ** min(self.failures, 10))
        return CircuitBreaker(self.failures + 1, now + pause * (0.5 + 0.5 * jitter))


def in_charge(breakers: Sequence[CircuitBreaker]) -> int:
    """Return which store coordinates a process: the first whose last call didn't fail, or else the last.

    Args:
        breakers: of its stores, best first.
    """
    return next((i for i, breaker in enumerate(breakers) if not breaker.open), len(breakers) - 1)


def longest_pause(polls_every: float) -> float:
    """Seconds after which a failed store is probed at the latest: less than from one poll of a client to the next."""
    return 0.8 * polls_every
