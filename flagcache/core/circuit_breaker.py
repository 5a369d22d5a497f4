"""Circuit breaker: when to call a store that failed again. Pure.

A failing store costs one timeout. Then the breaker is open and calls cost nothing, until one caller probes (half-open).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CircuitBreaker"]


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

    def allows(self, now: float) -> bool:
        """Whether the store may be called now."""
        return now >= self.retry_at

    def probing(self, now: float, *, longest: float) -> CircuitBreaker:
        """Return the breaker while one caller probes: no other caller does, for at most `longest` seconds."""
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
