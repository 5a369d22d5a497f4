"""The grants of one process, by thread: which thread fetches, and with which store's permission.

The vendor's SDK asks, fetches and delivers on the same thread, and doesn't report a fetch that failed or brought
nothing new. So each poll's outcome is kept for its thread, and the process remembers the latest grant.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

from flagcache.runtime.callers import Caller
from flagcache.settings import SLOW_FETCH
from flagcache.stores.base import Grant

__all__ = ["PollOutcome", "ThreadGrants"]


class PollOutcome(NamedTuple):
    """The result of a poll for the thread that polled."""

    store_name: str
    """The store that replied; empty if none did."""
    grant: Grant | None
    clock: int
    """The store's clock in its reply; 0 if none replied."""
    asked_at: float
    """Own clock before the poll."""
    deferred: bool = False
    """A grant was deferred to the next poll."""


class ThreadGrants:
    """The outcomes of one process's polls. The latest grant is in use until its thread delivers or asks again."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[Caller, PollOutcome] = WeakKeyDictionary()
        self._in_use: PollOutcome | None = None

    def record(self, who: Caller, outcome: PollOutcome) -> None:
        """Record the outcome of this caller's poll."""
        self._of[who] = outcome
        if outcome.grant is not None:
            self._in_use = outcome

    def granted_to(self, who: Caller) -> bool:
        """Whether this caller may fetch."""
        outcome = self._of.get(who)
        return outcome is not None and outcome.grant is not None

    def current(self, who: Caller) -> PollOutcome | None:
        """Return the outcome of this caller's latest poll, until it is taken."""
        return self._of.get(who)

    def take(self, who: Caller) -> tuple[PollOutcome | None, bool]:
        """Remove and return what was noted for this caller; and whether its grant was the latest one, still in use."""
        outcome = self._of.pop(who, None)
        was_in_use = outcome is not None and outcome is self._in_use
        if was_in_use:
            self._in_use = None
        return outcome, was_in_use

    def idle(self, now: float) -> bool:
        """Whether no thread fetches with a grant. After the time of the longest fetch a thread counts as lost."""
        outcome = self._in_use
        return outcome is None or now - outcome.asked_at > SLOW_FETCH
