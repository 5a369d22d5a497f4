"""The stores of one process in the order in which they are asked, each behind its breaker.

The first is the fleet's; the last is this process's own memory, which always answers. A store in trouble is passed over
until its breaker lets one probe through: whoever is given a store in trouble probes it, and tells the outcome by `lost`
or `answered`.
"""

from __future__ import annotations

import logging
import math
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from flagcache.core.circuit_breaker import Breaker
from flagcache.errors import NO_PLACE, FlagcacheError, StoreError
from flagcache.events import Event, Events, PushLost, PushRecovered, StoreLost, StoreRecovered
from flagcache.runtime.guard import guarded
from flagcache.runtime.here import prefix
from flagcache.store_failures import NOT_ALLOWED
from flagcache.stores.abilities import ProvesWrites, SendsNotices
from flagcache.stores.base import Store
from flagcache.stores.spec import StoreSpec
from flagcache.stores.unexpected import unexpected
from flagcache.worker.troubles import FALLBACK, PUBLISH, PUSH, STORE, Troubles

__all__ = ["Pauses", "Tier", "Tiers"]

_log = logging.getLogger(__name__)

_WRITES = ("read_only", "rights", "full")
"""Kinds of `StoreError` with which a store refuses to write."""


class Pauses(NamedTuple):
    """How long a store in trouble is left alone, and doubted: seconds."""

    longest: float
    """A store in trouble is probed after so long in any case."""
    settles_after: float = 0.0
    """A store that refused to write counts as writing again once it has answered, and refused nothing, for so long. Not
    needed if its answers prove that it writes (`ProvesWrites`)."""


class Tier:
    """One store of this process."""

    def __init__(self, spec: StoreSpec) -> None:
        self.spec = spec
        self.store: Store | None = None
        self.prover: ProvesWrites | None = None
        """The same, if its answers prove that it writes."""
        self.sender: SendsNotices | None = None
        """The same, if it sends notices, which it may be refused."""
        self.breaker = Breaker()
        self.refuses = ""
        """Why it refused to write (a kind of `StoreError`), until a write is known to succeed; empty if each of its
        answers proves that (`ProvesWrites`)."""
        self.held = ""
        """The newest version that this process knows it to have held."""
        self.missing = False
        """It was said that this machine has no place for it."""
        self.well_since: float | None = None
        """Own clock at its first answer after the latest refusal."""

    @property
    def home(self) -> str:
        """The name under which `Knowledge` speaks of this store."""
        return self.spec.address


class Tiers:
    """All stores of one process.

    Args:
        specs: the stores, best first.
        pauses: how long a store in trouble is left alone, and doubted.
        clock: this process's own clock, in seconds.
        events: told when a store is lost or answers again.
        namespace: for the events.
        troubles: records what was reported about them.
    """

    def __init__(
        self,
        specs: tuple[StoreSpec, ...],
        *,
        pauses: Pauses,
        clock: Callable[[], float],
        events: Events,
        namespace: str,
        troubles: Troubles,
    ) -> None:
        self._tiers = tuple(Tier(spec) for spec in specs)
        self._pauses = pauses
        self._clock = clock
        self._events = events
        self._namespace = namespace
        self._troubles = troubles
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
    def answering(self) -> tuple[str, ...]:
        """The names of those that are not in trouble, best first."""
        return tuple(tier.home for tier in self._tiers if not tier.breaker.open)

    @property
    def homes(self) -> tuple[str, ...]:
        """The names of all stores, best first."""
        return tuple(tier.home for tier in self._tiers)

    @property
    def probe_at(self) -> float:
        """When the fleet's own store, if it is in trouble, may be probed."""
        breaker = self.first.breaker
        return breaker.closed_again if breaker.open else math.inf

    def askable_at(self, home: str) -> float:
        """When the store of this name may be asked; in the past unless it is in trouble."""
        return next((tier.breaker.closed_again for tier in self._tiers if tier.home == home), 0.0)

    def named(self, home: str) -> tuple[Tier, Store] | None:
        """The store of this name, if it may be asked now."""
        for tier in self._tiers:
            if tier.home == home:
                store = self._admitted(tier)
                return None if store is None else (tier, store)
        return None

    def lost(self, tier: Tier, reason: FlagcacheError) -> None:
        """The store did not answer: open the breaker."""
        told = reason if isinstance(reason, StoreError) else StoreError(str(reason))
        trouble = f"{'store' if tier is self.first else 'fallback'}_{told.kind}"
        with self._lock:
            tier.breaker = tier.breaker.failed(self._clock(), longest=self._pauses.longest, jitter=random.random())
            proved = tier.prover.proves if tier.prover is not None else ()
            doubted = told.kind in _WRITES and told.kind not in proved
            tier.refuses, tier.well_since = told.kind if doubted else tier.refuses, None
        if told.kind == NO_PLACE:
            self._do_without(tier, told)
            return
        if tier is self.first:
            self._open_others()  # so that what is said of the meanwhile is so
        with self._lock:
            made = partial(StoreLost, self._namespace, tier.home, told.what, trouble, self._meanwhile(tier))
            event = self._troubles.lost(self._kind(tier), trouble, made, tier.home)
        if event is not None:
            self._events.emit(event)

    def _open_others(self) -> None:
        """Open the stores that take over, if no call has done so yet."""
        for tier in self._tiers[1:]:
            if tier.store is None and not tier.breaker.open:
                self._admitted(tier)

    def _do_without(self, tier: Tier, reason: StoreError) -> None:
        """This machine has no place for a store that was not asked for: no trouble, and said once."""
        if not tier.missing:
            tier.missing = True
            _log.info("%s: %s", prefix(self._namespace), reason)

    def answered(self, tier: Tier, *, wrote: bool = False, stored: bool = False) -> None:
        """The store answered: close the breaker.

        A store that refuses to write may still answer what only reads. Unless its answers prove that it writes, its
        trouble ends with a write, or when it has refused nothing for `Pauses.settles_after`.

        Args:
            tier: the store.
            wrote: it wrote for this process.
            stored: it took a payload, which a full store cannot.
        """
        self._look_at_notices(tier)
        if tier.prover is not None and tier.prover.refuses:
            return  # it was asked before it refused
        with self._lock:
            tier.breaker = Breaker()
            if not tier.refuses or stored or (wrote and tier.refuses != "full"):
                tier.well_since = None
            elif tier.well_since is None or self._clock() - tier.well_since < self._pauses.settles_after:
                tier.well_since = self._clock() if tier.well_since is None else tier.well_since
                return
            recovered, kind = partial(StoreRecovered, self._namespace), self._kind(tier)
            event = self._troubles.found(kind, recovered, store=tier.home, at=tier.well_since)
            tier.refuses, tier.well_since = "", None
        if event is not None:
            self._events.emit(event)

    def _look_at_notices(self, tier: Tier) -> None:
        """Report once that the store refuses notices, and once that it sends them again.

        If it refuses this process's subscription too, that was reported: as a rule one right is missing for both.
        """
        refused = None if tier.sender is None else tier.sender.push_refused
        if refused is None:  # a store that was just opened again has sent none yet: what was reported stands
            return
        event: Event | None
        if not refused:
            event = self._troubles.found(PUBLISH, partial(PushRecovered, self._namespace))
        elif self._troubles.has(PUSH):
            return
        else:
            reason = f"{tier.home}: {refused}"
            event = self._troubles.lost(PUBLISH, NOT_ALLOWED, partial(PushLost, self._namespace, reason, NOT_ALLOWED))
        if event is not None:
            self._events.emit(event)

    def _kind(self, tier: Tier) -> str:
        return STORE if tier is self.first else FALLBACK

    def _meanwhile(self, lost: Tier) -> str:
        """What goes on while this one does not answer, for people."""
        instead = self.in_charge
        if instead is lost:
            return "it is asked again until it answers"
        if self._tiers.index(instead) < self._tiers.index(lost):
            return f"{instead.home} answers, and nothing else changes"
        if instead.spec.archive:
            return f"meanwhile the processes of this machine share {instead.home}"
        return "meanwhile each process goes on alone"

    @property
    def first_answers(self) -> bool:
        """Whether the fleet's own store answered when it was last asked."""
        return not self._tiers[0].breaker.open

    def close(self) -> None:
        """Close what is open; the next use opens it again."""
        with self._lock:
            stores = [(tier.spec.address, tier.store) for tier in self._tiers if tier.store is not None]
            for tier in self._tiers:
                tier.store = tier.prover = tier.sender = None
        for address, store in stores:
            guarded(store.close, None, f"could not close {address}", self._namespace)

    def _admitted(self, tier: Tier) -> Store | None:
        """The store, opened, if it may be asked now; of several threads one probes what is in trouble."""
        now = self._clock()
        with self._lock:
            if not tier.breaker.allows(now):
                return None
            tier.breaker = tier.breaker.probing(now, longest=self._pauses.longest)
        try:
            return self._opened(tier)
        except FlagcacheError as exc:
            self.lost(tier, exc)
        except Exception as exc:  # noqa: BLE001 - as a verb's: it is trouble of this store, and the next one is asked
            self.lost(tier, unexpected(exc, tier.spec.address))
        return None

    def _opened(self, tier: Tier) -> Store:
        with self._lock:
            if tier.store is None:
                tier.store = tier.spec.open()
                tier.prover, tier.sender = _prover(tier.store), _sender(tier.store)
            return tier.store


def _sender(store: object) -> SendsNotices | None:
    return store if isinstance(store, SendsNotices) else None


def _prover(store: object) -> ProvesWrites | None:
    return store if isinstance(store, ProvesWrites) else None
