"""The verbs that only apply the rules to a state, which the stores in SQLite and in memory share.

Redis runs the same rules in Lua. A verb that also reads or writes the payload is each store's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from flagcache.stores.base import Grant, Notice, Scope
from flagcache.stores.rules import verbs as rules
from flagcache.stores.unexpected import only_store_errors

__all__ = ["VerbsByRules"]

_T = TypeVar("_T")


@only_store_errors
class VerbsByRules(ABC):
    """Part of a store whose state this process can load and save.

    Args:
        clock: returns the store's time in milliseconds.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock

    @abstractmethod
    def _run_verb(self, verb: Callable[[rules.State], tuple[rules.State, _T, Notice | None]]) -> _T:
        """Apply a verb to the state, save that, and send the notice, all in one atomic step."""

    def confirm(self, me: str, version: str, grant: Grant, *, lease: int, stamp: str = "") -> bool:
        """As `Store.confirm`."""
        return self._run_verb(
            lambda state: rules.confirm(state, me, version, grant, self._clock(), lease=lease, stamp=stamp)
        )

    def discard(self, me: str, version: str) -> bool:
        """As `Store.discard`."""
        return self._run_verb(lambda state: rules.discard(state, version, self._clock()))

    def report(self, me: str, version: str, interval: int) -> bool:
        """As `Store.report`."""
        return self._run_verb(lambda state: rules.report(state, version, interval, self._clock()))

    def fail(
        self, me: str, as_of: int, scope: Scope, *, status: int = 0, retry_after: int = 0, stamp: str = ""
    ) -> bool:
        """As `Store.fail`."""

        def verb(state: rules.State) -> tuple[rules.State, bool, Notice | None]:
            clock = self._clock()
            return rules.fail(state, me, as_of, scope, clock, status=status, retry_after=retry_after, stamp=stamp)

        return self._run_verb(verb)

    def renew(self, me: str, lease: int) -> bool:
        """As `Store.renew`."""
        return self._run_verb(lambda state: (*rules.renew(state, me, lease, self._clock()), None))

    def release(self, me: str, *, idle: bool) -> bool:
        """As `Store.release`."""
        return self._run_verb(lambda state: rules.release(state, me, self._clock(), idle=idle))
