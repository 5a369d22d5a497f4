"""When to ask a store that did not answer again: pure.

A store in trouble costs one timeout; then the breaker is open and costs nothing, until one caller probes.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Breaker"]


class Breaker(NamedTuple):
    """What is known of the health of one store. Times are seconds of the process's own clock."""

    failures: int = 0
    """Calls that failed since the last one that did not."""
    closed_again: float = 0.0
    """Until then the store is not asked."""

    @property
    def open(self) -> bool:
        """Whether the last call failed."""
        return self.failures > 0

    def allows(self, now: float) -> bool:
        """Whether the store may be asked now."""
        return now >= self.closed_again

    def probing(self, now: float, *, longest: float) -> Breaker:
        """Return the breaker while one caller probes: nobody else does, for at most `longest` seconds."""
        return self._replace(closed_again=now + longest) if self.open else self

    def failed(self, now: float, *, longest: float, jitter: float) -> Breaker:
        """Return the breaker after one more failed call.

        Args:
            now: the present.
            longest: seconds after which a probe is due in any case.
            jitter: a random number from 0 to 1, so that a fleet does not probe in step.
        """
        pause = min(longest, 0.5 * 2 ** min(self.failures, 10))
        return Breaker(self.failures + 1, now + pause * (0.5 + 0.5 * jitter))
