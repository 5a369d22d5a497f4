"""What a store holds for one namespace, but the payload, and how its times are read: pure.

Every stored time that lies further ahead of the clock than its own length counts as past (`running`), so that a clock
that was stepped back stops nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from flagcache.stores.base import Meta

__all__ = ["Outcome", "State", "passed", "running"]


class Outcome(str, Enum):
    """What became of the latest grant."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class State:
    """Everything stored for one namespace, but the payload."""

    meta: Meta | None = None
    """None: nothing is stored, or nothing readable."""
    epoch: int = 0
    highest: int = 0
    """The highest `as_of` ever stored or granted; the next grant's is higher."""
    grant: int = 0
    """`as_of` of the latest grant."""
    granted: tuple[int, int, int] = (0, 0, 0)
    """The clock at the latest three grants, newest first."""
    holder: str = ""
    outcome: Outcome = Outcome.DONE
    owner: str = ""
    """Who holds the lease."""
    lease_until: int = 0
    lease_length: int = 0
    led_since: int = 0
    """When the present leader began, or was last left unchallenged."""
    note_status: int = 0
    note_until: int = 0
    note_length: int = 0
    repair_asked: int = 0
    """When an asker was last told to repair the store."""


def running(end: int, length: int, clock: int) -> bool:
    """Whether something of this length that ends then is still under way; one that ends too far ahead is not."""
    return clock < end <= clock + length


def passed(since: int, length: int, clock: int) -> bool:
    """Whether this length has gone by since then."""
    return not running(since + length, length, clock)
