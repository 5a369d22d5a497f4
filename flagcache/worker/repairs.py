"""What is said of a store that loses the definitions: each repair is an event, and the log has one line a minute."""

from __future__ import annotations

import math
from functools import partial

from flagcache.errors import StoreError
from flagcache.events import DefinitionsRepaired
from flagcache.stores.abilities import EvictsKeys
from flagcache.stores.base import Store
from flagcache.worker.config import Plan
from flagcache.worker.failover import Tier
from flagcache.worker.state import Ledger

__all__ = ["Repairs"]

_EVERY = 60.0
"""Seconds between two lines in the log, at least."""


class Repairs:
    """Reports the repairs of one process.

    Args:
        plan: what all processes of the cache have in common.
        ledger: emits the events.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self._said_at = -math.inf
        self._times = 0
        """How often this process repaired a store since it was last said."""

    def replaced(self, version: str, tier: Tier) -> None:
        """This process put definitions in the place of those that it lacks the key of: the store has lost nothing."""
        self._ledger.emit(DefinitionsRepaired(self._plan.namespace, version, tier.home, unread=True))

    def made(self, version: str, tier: Tier, store: Store, *, behind: bool = False, known: bool = True) -> None:
        """This process gave a store what that had lost.

        Args:
            version: of the definitions.
            tier: the store.
            store: the same.
            behind: it only had an older version, because it was away.
            known: as far as this process knows it ever had any.
        """
        if behind or not known:
            return self._ledger.emit(DefinitionsRepaired(self._plan.namespace, version, tier.home, behind, known))
        now = self._plan.clock()
        quiet, times = now - self._said_at < _EVERY, self._times + 1
        self._times, self._said_at = (times, self._said_at) if quiet else (0, now)
        policy, evicts = "" if quiet or times == 1 else _policy(store), isinstance(store, EvictsKeys)
        repaired = partial(DefinitionsRepaired, self._plan.namespace, version, tier.home, evicts=evicts)
        return self._ledger.emit(repaired(times=times, policy=policy, quiet=quiet))


def _policy(store: Store) -> str:
    """Which keys the store evicts; empty if it does not say."""
    try:
        return store.eviction_policy() if isinstance(store, EvictsKeys) else ""
    except StoreError:
        return ""
