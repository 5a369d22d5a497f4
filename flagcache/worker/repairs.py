"""Reports repairs of a store that lost the definitions: an event for each, and one log line a minute."""

from __future__ import annotations

import math
from functools import partial

from flagcache.errors import StoreError
from flagcache.events import DefinitionsRepaired
from flagcache.stores.abilities import EvictsKeys
from flagcache.stores.base import Store
from flagcache.worker.config import CacheConfig
from flagcache.worker.managed_store import ManagedStore
from flagcache.worker.state import ProcessState

__all__ = ["Repairs"]

_EVERY = 60.0
"""Least seconds between two log lines."""


class Repairs:
    """Reports the repairs of one process.

    Args:
        config: what all processes of the cache have in common.
        state: emits the events.
    """

    def __init__(self, config: CacheConfig, state: ProcessState) -> None:
        self._config = config
        self._state = state
        self._said_at = -math.inf
        self._times = 0
        """Number of repairs since the last log line."""

    def replaced(self, version: str, managed: ManagedStore) -> None:
        """This process replaced definitions whose key it lacks: the store has lost nothing."""
        self._state.emit(DefinitionsRepaired(self._config.namespace, version, managed.store_name, unread=True))

    def made(
        self, version: str, managed: ManagedStore, store: Store, *, behind: bool = False, known: bool = True
    ) -> None:
        """This process published what a store had lost.

        Args:
            version: of the definitions.
            managed: the store.
            store: the same, opened.
            behind: the store only had an older version, because it was down.
            known: as far as this process knows, the store had definitions before.
        """
        if behind or not known:
            return self._state.emit(
                DefinitionsRepaired(self._config.namespace, version, managed.store_name, behind, known)
            )
        now = self._config.clock()
        quiet, times = now - self._said_at < _EVERY, self._times + 1
        self._times, self._said_at = (times, self._said_at) if quiet else (0, now)
        policy, evicts = "" if quiet or times == 1 else _policy(store), isinstance(store, EvictsKeys)
        repaired = partial(DefinitionsRepaired, self._config.namespace, version, managed.store_name, evicts=evicts)
        return self._state.emit(repaired(times=times, policy=policy, quiet=quiet))


def _policy(store: Store) -> str:
    """Return the store's policy of eviction; empty if it doesn't report one."""
    try:
        return store.eviction_policy() if isinstance(store, EvictsKeys) else ""
    except StoreError:
        return ""
