"""The stores of one process in the order in which they are asked, each behind its breaker.

The first is the fleet's; the last is this process's own memory, which always answers. A store in trouble is passed over
until its breaker lets one probe through: whoever is given a store in trouble probes it, and tells the outcome by `lost`
or `answered`.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator

from flagcache.core.circuit_breaker import Breaker
from flagcache.errors import FlagcacheError
from flagcache.events import Events, StoreLost, StoreRecovered
from flagcache.runtime.guard import guarded
from flagcache.stores.base import Store
from flagcache.stores.spec import StoreSpec

__all__ = ["Tier", "Tiers"]


class Tier:
    """One store of this process."""

    def __init__(self, spec: StoreSpec) -> None:
        self.spec = spec
        self.store: Store | None = None
        self.breaker = Breaker()

    @property
    def home(self) -> str:
        """The name under which `Knowledge` speaks of this store."""
        return self.spec.address


class Tiers:
    """All stores of one process.

    Args:
        specs: the stores, best first.
        longest_pause: seconds after which a store in trouble is probed in any case.
        clock: this process's own clock, in seconds.
        events: told when a store is lost or answers again.
        namespace: for the events.
    """

    def __init__(
        self,
        specs: tuple[StoreSpec, ...],
        *,
        longest_pause: float,
        clock: Callable[[], float],
        events: Events,
        namespace: str,
    ) -> None:
        self._tiers = tuple(Tier(spec) for spec in specs)
        self._longest_pause = longest_pause
        self._clock = clock
        self._events = events
        self._namespace = namespace
        self._lock = threading.RLock()

    def usable(self) -> Iterator[tuple[Tier, Store]]:
        """The stores that may be asked now, best first."""
        for tier in self._tiers:
            store = self._admitted(tier)
            if store is not None:
                yield tier, store

    @property
    def first(self) -> Tier:
        """The fleet's own store."""
        return self._tiers[0]

    @property
    def archive(self) -> str:
        """Name of the store that is to keep the last known good definitions; empty where there is none."""
        return next((tier.home for tier in self._tiers if tier.spec.archive), "")

    @property
    def in_charge(self) -> Tier:
        """The store that coordinates this process now: the first that has answered, or was not asked yet."""
        return next((tier for tier in self._tiers if not tier.breaker.open), self._tiers[-1])

    @property
    def homes(self) -> tuple[str, ...]:
        """The names of all stores, best first."""
        return tuple(tier.home for tier in self._tiers)

    @property
    def probe_at(self) -> float:
        """When the fleet's own store, if it is in trouble, may be probed."""
        breaker = self.first.breaker
        return breaker.closed_again if breaker.open else math.inf

    def named(self, home: str) -> tuple[Tier, Store] | None:
        """The store of this name, if it may be asked now."""
        for tier in self._tiers:
            if tier.home == home:
                store = self._admitted(tier)
                return None if store is None else (tier, store)
        return None

    def lost(self, tier: Tier, reason: FlagcacheError) -> None:
        """The store did not answer: open the breaker."""
        with self._lock:
            first = not tier.breaker.open
            tier.breaker = tier.breaker.failed(self._clock(), longest=self._longest_pause, jitter=random.random())
        if first:
            self._events.emit(StoreLost(self._namespace, tier.spec.address, str(reason)))

    def answered(self, tier: Tier) -> None:
        """The store answered: close the breaker."""
        with self._lock:
            back = tier.breaker.open
            tier.breaker = Breaker()
        if back:
            self._events.emit(StoreRecovered(self._namespace, tier.spec.address))

    @property
    def first_answers(self) -> bool:
        """Whether the fleet's own store answered when it was last asked."""
        return not self._tiers[0].breaker.open

    def close(self) -> None:
        """Close what is open; the next use opens it again."""
        with self._lock:
            stores = [(tier.spec.address, tier.store) for tier in self._tiers if tier.store is not None]
            for tier in self._tiers:
                tier.store = None
        for address, store in stores:
            guarded(store.close, None, f"could not close {address}")

    def _admitted(self, tier: Tier) -> Store | None:
        """The store, opened, if it may be asked now; of several threads one probes what is in trouble."""
        now = self._clock()
        with self._lock:
            if not tier.breaker.allows(now):
                return None
            tier.breaker = tier.breaker.probing(now, longest=self._longest_pause)
        try:
            return self._opened(tier)
        except FlagcacheError as exc:
            self.lost(tier, exc)
            return None

    def _opened(self, tier: Tier) -> Store:
        with self._lock:
            if tier.store is None:
                tier.store = tier.spec.open()
            return tier.store
