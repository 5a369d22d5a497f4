"""Which thread of a process is out fetching, and on whose permission.

The vendor's SDK asks, fetches and delivers on the same thread and tells a cache nothing of a fetch that failed or
brought nothing new. So each errand is kept on its thread, and the process remembers the latest one.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

from flagcache.runtime.callers import Caller, caller
from flagcache.settings import SLOW_FETCH
from flagcache.stores.base import Grant

__all__ = ["Errand", "Errands"]


class Errand(NamedTuple):
    """The result of a poll for the thread that polled."""

    home: str
    """The store that replied; empty if none did."""
    grant: Grant | None
    clock: int
    """The store's clock in its reply; 0 if none replied."""
    asked_at: float
    """Own clock before the poll."""
    deferred: bool = False
    """A grant was left for the next poll."""


class Errands:
    """The errands of one process. The last one granted is `out` until it is delivered or its thread asks again."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[Caller, Errand] = WeakKeyDictionary()
        self._out: Errand | None = None

    def send(self, errand: Errand) -> None:
        """Note what the calling thread was just told."""
        self._of[caller()] = errand
        if errand.grant is not None:
            self._out = errand

    @property
    def granted(self) -> bool:
        """Whether the calling thread may fetch."""
        errand = self._of.get(caller())
        return errand is not None and errand.grant is not None

    @property
    def current(self) -> Errand | None:
        """What the calling thread was told last, until it is back."""
        return self._of.get(caller())

    def back(self) -> tuple[Errand | None, bool]:
        """Take the calling thread's errand from it; and whether that was the one that was out."""
        errand = self._of.pop(caller(), None)
        was_out = errand is not None and errand is self._out
        if was_out:
            self._out = None
        return errand, was_out

    def idle(self, now: float) -> bool:
        """Whether no thread is out. One that never came back counts as lost after the longest fetch."""
        out = self._out
        return out is None or now - out.asked_at > SLOW_FETCH
