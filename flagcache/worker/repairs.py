"""What is said of a store that loses the definitions: each repair is an event, and the log has one line a minute."""

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
"""Seconds between two lines in the log, at least."""


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
        """How often this process repaired a store since it was last said."""

    def replaced(self, version: str, managed: ManagedStore) -> None:
        """This process put definitions in the place of those that it lacks the key of: the store has lost nothing."""
        self._state.emit(DefinitionsRepaired(self._config.namespace, version, managed.store_name, unread=True))

    def made(
        self, version: str, managed: ManagedStore, store: Store, *, behind: bool = False, known: bool = True
    ) -> None:
        """This process gave a store what that had lost.

        Args:
            version: of the definitions.
            managed: the store.
            store: the same.
            behind: it only had an older version, because it was away.
            known: as far as this process knows it ever had any.
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
    """Which keys the store evicts; empty if it does not say."""
    try:
        return store.eviction_policy() if isinstance(store, EvictsKeys) else ""
    except StoreError:
        return ""
