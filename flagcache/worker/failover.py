"""The stores of one process in the order in which they are polled, each behind its circuit breaker.

The first is the fleet's; the last is this process's own memory, which always answers. A store in trouble is skipped
until its breaker lets one probe through. The thread that gets a store in trouble probes it, and reports by `failed` or
`answered`.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from flagcache.core.circuit_breaker import CircuitBreaker, in_charge
from flagcache.errors import NO_PLACE, FlagcacheError, StoreError
from flagcache.events import Event, Events, PushLost, PushRecovered, StoreLost, StoreRecovered
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.log_prefix import prefix
from flagcache.store_failures import NOT_ALLOWED
from flagcache.stores.abilities import ProvesWrites, SendsNotices
from flagcache.stores.base import Store
from flagcache.stores.spec import StoreSpec
from flagcache.stores.unexpected import unexpected
from flagcache.worker.managed_store import ManagedStore
from flagcache.worker.troubles import FALLBACK, PUBLISH, PUSH, STORE, Troubles

__all__ = ["FailoverStores", "Pauses"]

_log = logging.getLogger(__name__)

_WRITES = ("read_only", "rights", "full")
"""Kinds of `StoreError` with which a store refuses to write."""


class Pauses(NamedTuple):
    """How long a failed store is not called, and how long it is doubted, in seconds."""

    longest: float
    """A failed store is probed after this time at the latest."""
    settles_after: float = 0.0
    """A store that refused a write has recovered if it has answered, and refused nothing, for this time. Not needed if
    its replies prove that it writes (`ProvesWrites`)."""


class FailoverStores:
    """All stores of one process.

    Args:
        specs: the stores, best first.
        pauses: how long a failed store is not called, and doubted.
        clock: this process's own clock, in seconds.
        events: receives an event when a store is lost or answers again.
        namespace: for the events.
        troubles: remembers which failures were reported.
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
        self._stores = tuple(ManagedStore(spec) for spec in specs)
        self._in_charge = self._stores[0]
        self._pauses = pauses
        self._clock = clock
        self._events = events
        self._namespace = namespace
        self._troubles = troubles
        self._lock = threading.RLock()

    def usable(self) -> Iterator[tuple[ManagedStore, Store]]:
        """Yield the stores that may be called now, best first."""
        for managed in self._stores:
            known = managed.store if not managed.breaker.failures else None
            store = known if known is not None else self._admitted(managed)
            if store is not None:
                yield managed, store

    @property
    def first(self) -> ManagedStore:
        """The fleet's own store."""
        return self._stores[0]

    @property
    def fallback(self) -> str:
        """Name of the store with the last known good definitions, the fallback file; empty if there is none."""
        return next((managed.store_name for managed in self._stores if managed.spec.fallback), "")

    @property
    def in_charge(self) -> ManagedStore:
        """The store that coordinates this process now: the first whose last call didn't fail."""
        return self._in_charge

    @property
    def answering(self) -> tuple[str, ...]:
        """The names of the stores whose last call didn't fail, best first."""
        return tuple(managed.store_name for managed in self._stores if not managed.breaker.open)

    @property
    def store_names(self) -> tuple[str, ...]:
        """The names of all stores, best first."""
        return tuple(managed.store_name for managed in self._stores)

    @property
    def probe_at(self) -> float:
        """When the fleet's own store may be probed, if it failed; `math.inf` if it didn't."""
        return self.first.breaker.probe_at

    def askable_at(self, store_name: str) -> float:
        """When the store of this name may be called; in the past unless it failed."""
        return next((managed.breaker.retry_at for managed in self._stores if managed.store_name == store_name), 0.0)

    def named(self, store_name: str) -> tuple[ManagedStore, Store] | None:
        """Return the store of this name, if it may be called now."""
        for managed in self._stores:
            if managed.store_name == store_name:
                store = self._admitted(managed)
                return None if store is None else (managed, store)
        return None

    def failed(self, managed: ManagedStore, reason: FlagcacheError) -> None:
        """The store did not answer: open the breaker."""
        exc = reason if isinstance(reason, StoreError) else StoreError(str(reason))
        trouble = f"{'store' if managed is self.first else 'fallback'}_{exc.kind}"
        with self._lock:
            now, jitter = self._clock(), random.random()
            self._set_breaker(managed, managed.breaker.failed(now, longest=self._pauses.longest, jitter=jitter))
            proved = managed.prover.proves if managed.prover is not None else ()
            doubted = exc.kind in _WRITES and exc.kind not in proved
            managed.refuses, managed.well_since = exc.kind if doubted else managed.refuses, None
        if exc.kind == NO_PLACE:
            self._do_without(managed, exc)
            return
        if managed is self.first:
            self._open_others()  # so that the event names the store that really takes over
        with self._lock:
            made = partial(StoreLost, self._namespace, managed.store_name, exc.what, trouble, self._meanwhile(managed))
            event = self._troubles.begin(self._kind(managed), trouble, made, managed.store_name)
        if event is not None:
            self._events.emit(event)

    def _set_breaker(self, managed: ManagedStore, breaker: CircuitBreaker) -> None:
        managed.breaker = breaker
        self._in_charge = self._stores[in_charge([each.breaker for each in self._stores])]

    def _open_others(self) -> None:
        """Open the stores that take over, if no call has done so yet."""
        for managed in self._stores[1:]:
            if managed.store is None and not managed.breaker.open:
                self._admitted(managed)

    def _do_without(self, managed: ManagedStore, reason: StoreError) -> None:
        """This machine has no place for a store that the user didn't ask for: no failure, one log line."""
        if not managed.missing:
            managed.missing = True
            _log.info("%s: %s", prefix(self._namespace), reason)

    def answered(self, managed: ManagedStore, *, wrote: bool = False, stored: bool = False) -> None:
        """The store answered: close the breaker.

        A store that refuses to write may still answer calls that only read. Unless its replies prove that it writes,
        its failure ends with a write, or when it has refused nothing for `Pauses.settles_after`.

        Args:
            managed: the store.
            wrote: it wrote something for this process.
            stored: it wrote a payload, which a full store can't.
        """
        sender, in_trouble = managed.sender, bool(self._troubles.active)
        if sender is not None and (in_trouble or sender.push_refused):
            self._check_notices(managed, sender.push_refused)
        if managed.sound and not in_trouble:
            return
        if managed.prover is not None and managed.prover.refuses:
            return  # this call began before the refusal
        with self._lock:
            self._set_breaker(managed, CircuitBreaker())
            if not managed.refuses or stored or (wrote and managed.refuses != "full"):
                managed.well_since = None
            elif managed.well_since is None or self._clock() - managed.well_since < self._pauses.settles_after:
                managed.well_since = self._clock() if managed.well_since is None else managed.well_since
                return
            recovered, kind = partial(StoreRecovered, self._namespace), self._kind(managed)
            event = self._troubles.end(kind, recovered, store=managed.store_name, at=managed.well_since)
            managed.refuses, managed.well_since = "", None
        if event is not None:
            self._events.emit(event)

    def _check_notices(self, managed: ManagedStore, refused: str | None) -> None:
        """Report once that the store refuses notices, and once that it accepts them again.

        If it refuses this process's subscription too, that was reported already: usually one right is missing for both.
        """
        if refused is None:  # just opened, it has sent none yet
            return
        event: Event | None
        if not refused:
            event = self._troubles.end(PUBLISH, partial(PushRecovered, self._namespace))
        elif self._troubles.has(PUSH):
            return
        else:
            reason = f"{managed.store_name}: {refused}"
            event = self._troubles.begin(PUBLISH, NOT_ALLOWED, partial(PushLost, self._namespace, reason, NOT_ALLOWED))
        if event is not None:
            self._events.emit(event)

    def _kind(self, managed: ManagedStore) -> str:
        return STORE if managed is self.first else FALLBACK

    def _meanwhile(self, lost: ManagedStore) -> str:
        """Say for a log line what happens while this store doesn't answer."""
        instead = self.in_charge
        if instead is lost:
            return "it is asked again until it answers"
        if self._stores.index(instead) < self._stores.index(lost):
            return f"{instead.store_name} answers, and nothing else changes"
        if instead.spec.fallback:
            return f"meanwhile the processes of this machine share {instead.store_name}"
        return "meanwhile each process goes on alone"

    @property
    def first_answers(self) -> bool:
        """Whether the fleet's own store answered when it was last asked."""
        return not self._stores[0].breaker.open

    def close(self) -> None:
        """Close what is open; the next use opens it again."""
        with self._lock:
            stores = [(managed.spec.address, managed.store) for managed in self._stores if managed.store is not None]
            for managed in self._stores:
                managed.store = managed.prover = managed.sender = None
        for address, store in stores:
            log_exceptions(store.close, None, self._namespace, "could not close %s", address)

    def _admitted(self, managed: ManagedStore) -> Store | None:
        """Return the opened store if it may be called now; of several threads only one probes a failed store."""
        now = self._clock()
        with self._lock:
            breaker = managed.breaker.admitted(now, longest=self._pauses.longest)
            if breaker is None:
                return None
            managed.breaker = breaker
        try:
            return self._opened(managed)
        except FlagcacheError as exc:
            self.failed(managed, exc)
        except Exception as exc:  # noqa: BLE001 - a failure of this store, as in a verb: the next one is polled
            self.failed(managed, unexpected(exc, managed.spec.address))
        return None

    def _opened(self, managed: ManagedStore) -> Store:
        with self._lock:
            if managed.store is None:
                managed.store = managed.spec.open()
                managed.prover, managed.sender = _prover(managed.store), _sender(managed.store)
            return managed.store


def _sender(store: object) -> SendsNotices | None:
    return store if isinstance(store, SendsNotices) else None


def _prover(store: object) -> ProvesWrites | None:
    return store if isinstance(store, ProvesWrites) else None
