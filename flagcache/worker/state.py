"""The one mutable state of a process: what it knows of its fleet, and the events that report changes of it.

What it knows is one immutable value (`flagcache.core.knowledge.Knowledge`), swapped under the lock. Stores are never
called under the lock.

Invariant: definitions are never replaced by older ones.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial

from flagcache.core import ageing, knowledge, renewals
from flagcache.core.circuit_breaker import longest_pause
from flagcache.core.fetches import apply_success
from flagcache.core.knowledge import Held, Knowledge, StoreView
from flagcache.errors import StoreError
from flagcache.event_log import log_events
from flagcache.events import (
    ColdStartExpired,
    ColdStartRecovered,
    DefinitionsChanged,
    DefinitionsFresh,
    DefinitionsStale,
    Event,
    FetchFailed,
    FetchRecovered,
    QuotaLimited,
    QuotaRestored,
)
from flagcache.failures import QUOTA
from flagcache.runtime import process
from flagcache.settings import COLD_START_WAIT, Settings
from flagcache.stores.base import Scope
from flagcache.vendor import Refused
from flagcache.worker import troubles
from flagcache.worker.changes import Changes
from flagcache.worker.config import CacheConfig
from flagcache.worker.encoded import Encoded
from flagcache.worker.failover import FailoverStores, Pauses
from flagcache.worker.leadership import Leadership
from flagcache.worker.managed_store import ManagedStore
from flagcache.worker.troubles import Troubles

__all__ = ["ProcessState", "are_emptied"]

_KEYS_REFUSED = (401, 403)
"""HTTP statuses of a refused key."""


def are_emptied(know: Knowledge, settings: Settings) -> bool:
    """Whether clients must get no flags, because the quota is used up."""
    return know.backoff.status == QUOTA and settings.on_quota_limited == "clear"


class ProcessState:
    """One process's knowledge, and its stores.

    Args:
        config: what all processes of the cache have in common.
        know: what this process knows from its parent.
    """

    def __init__(self, config: CacheConfig, know: Knowledge) -> None:
        self.me = config.mark + process.identity()
        self.know = know._replace(signs=config.codec.stamps.signs)
        self.troubles = Troubles(config.clock)
        """Failures that last, and what was reported about them."""
        self.stores = FailoverStores(
            config.stores,
            pauses=Pauses(longest_pause(config.polls_every), config.settles_after),
            clock=config.clock,
            events=config.events,
            namespace=config.namespace,
            troubles=self.troubles,
        )
        self.changes = Changes(config)
        self.encoded = Encoded(config, self.troubles)
        self._leadership = Leadership(config.namespace, config.clock)
        self._config = config
        self._failed_at = 0.0
        """Own clock before the latest failed fetch of this process was reported: a later grant is for another
        process."""
        self._all_failed_at = -math.inf
        """Own clock when a store last replied that the fetches of other processes failed too."""
        self.lock = threading.RLock()  # reentrant: a signal handler may shut down the client that it interrupted

    def update(self, change: Callable[[Knowledge], Knowledge]) -> None:
        """Replace what is known by what `change` returns for it."""
        with self.lock:
            self.know = change(self.know)

    def settle_order(self) -> None:
        """Order the held definitions before all others if their order stayed unknown for too long."""
        longest = self._config.settings.challenge_after
        self.update(lambda know: ageing.settled(know, longest, self._config.clock()))

    def adopt(self, held: Held, *, fetched: bool) -> None:
        """Adopt these definitions, unless newer ones were adopted meanwhile."""
        with self.lock:
            before = self.know.held
            self.know = knowledge.adopt(self.know, held)
            taken = self.know.held is held
        if taken:
            self.emit(self.troubles.end(troubles.FIRST_LOAD, partial(ColdStartRecovered, self._config.namespace)))
        if taken and held.accepted:
            self.encoded.accepted(held.meta.version)
        if not taken or (before is not None and before.meta.version == held.meta.version):
            return
        previous, old = (before.meta.version, before.definitions) if before else ("", self._config.vendor.empty())
        difference = self._config.vendor.difference(old, held.definitions)
        flags = self._config.vendor.count(held.definitions)
        event = DefinitionsChanged(self._config.namespace, held.meta.version, previous, fetched, difference, flags)
        self.changes.emit(event, held.definitions)

    def report_changes(self, stale_after: float | None = None) -> None:
        """Report changes of the quota, of the age of what is held and of others' fetches, and the end of the lease.

        Polls and the listener call this at the same time, so we check and record under one lock.

        Args:
            stale_after: as `CacheConfig.stale_after`, if the caller knows it.
        """
        now, managed = self._config.clock(), self.stores.in_charge
        view = self.know.view(managed.store_name)
        if view.leads and now >= view.lease_ends:
            self.lease_lost(managed)
            view = self.active_view
        left_out = self._leadership.left_out(managed.store_name if view.leads else "", now)
        if left_out is not None:
            log_events(left_out)
        if self._is_uneventful(view, now, stale_after):
            return
        with self.lock:
            events = (self._check_quota(), self._check_age(), self._check_fetches(), self._check_first_load())
        for event in events:
            self.emit(event)

    def _is_uneventful(self, view: StoreView, now: float, stale_after: float | None) -> bool:
        """Whether there is no failure and none was reported, so that nothing can have changed."""
        know = self.know
        if know.held is None or know.failures or know.backoff.status or view.exhausted or self.troubles.active:
            return False
        return now - know.held.born <= (self._config.stale_after if stale_after is None else stale_after)

    def _check_quota(self) -> Event | None:
        namespace, status = self._config.namespace, self.know.backoff.status
        if status in (0, QUOTA):
            self.troubles.drop(troubles.FLEET)
        else:
            self.troubles.record(troubles.FLEET, f"{self._config.vendor.name}_{status}")
        empty = self.know.held is None
        if status != QUOTA:
            return self.troubles.end(troubles.QUOTA, partial(QuotaRestored, namespace, empty=empty), status)
        cleared = self._config.settings.on_quota_limited == "clear"
        return self.troubles.begin(troubles.QUOTA, "quota", partial(QuotaLimited, namespace, cleared, empty=empty))

    def _check_age(self) -> Event | None:
        namespace, held = self._config.namespace, self.know.held
        if held is None or not self.is_stale:
            return self.troubles.end(troubles.STALE, partial(DefinitionsFresh, namespace))
        age, quota = self._config.clock() - held.born, self.know.backoff.status == QUOTA
        stale = partial(DefinitionsStale, namespace, age, quota)
        return self.troubles.begin(troubles.STALE, "quota" if quota else "stale", stale)

    def _check_fetches(self) -> Event | None:
        """Report the end of failed fetches if any process's fetch succeeded, which the age of what is held shows.

        If the keys of other processes were refused too, this also ends the failure of refused keys. Others have up to
        three tries in an interval after each failure.
        """
        held, failures = self.know.held, self.know.failures
        if self.active_view.exhausted:
            self._all_failed_at = self.active_view.replied_at
        if held is None or held.born <= self._failed_at:
            return None
        long = failures and held.born - self._failed_at > self._config.settles_after
        if long or self._failed_at <= self._all_failed_at < held.born:
            self.troubles.drop(troubles.KEYS_REFUSED)
        if not failures:
            return None
        self.update(lambda know: know._replace(failures=0))
        return self.troubles.end(troubles.FETCH, partial(FetchRecovered, self._config.namespace, own=False))

    def _check_first_load(self) -> Event | None:
        """Report again that no definitions came; `adopt` reports definitions that came too late."""
        if self.know.held is not None or not self.troubles.has(troubles.FIRST_LOAD):
            return None
        return self._cold_start_expired(self._config.settings.cold_start_wait)

    def _cold_start_expired(self, waited: float) -> Event | None:
        settings, namespace = self._config.settings, self._config.namespace
        declines = not settings.cold_start_wait and not settings.reads_only

        def expired(lasted: float) -> Event:
            return ColdStartExpired(namespace, waited, lasted, declined=declines and lasted < COLD_START_WAIT)

        return self.troubles.begin(troubles.FIRST_LOAD, "no_definitions", expired)

    def cold_start_expired(self, waited: float) -> None:
        """Report that the first load waited for `waited` seconds and no definitions came."""
        self.emit(self._cold_start_expired(waited))

    def fetch_failed(self, store_name: str, refused: Refused, began: float, pause: float) -> None:
        """A fetch that this store granted failed; `began` is the own clock before the failure was reported."""
        made = partial(FetchFailed, self._config.namespace, refused.reason, refused.status, refused.scope, pause)
        trouble = refused.trouble(self._config.vendor.name)
        with self.lock:
            self._failed_at = began
            if refused.status in _KEYS_REFUSED and refused.scope is Scope.MINE:
                self.troubles.record(troubles.KEYS_REFUSED, trouble)
            self.update(lambda know: knowledge.apply_failure(know, store_name, refused, self._config.clock(), pause))
            empty = self.know.held is None or self.emptied
            event = self.troubles.begin(troubles.FETCH, trouble, partial(made, trouble, empty=empty))
        self.emit(event)

    def fetch_succeeded(self, *, brought: bool) -> None:
        """A fetch of this process succeeded: it `brought` definitions, or those that are held are unchanged."""
        with self.lock:
            self.update(lambda know: apply_success(know, brought=brought))
            self.troubles.drop(troubles.KEYS_REFUSED)
            event = self.troubles.end(troubles.FETCH, partial(FetchRecovered, self._config.namespace))
        self.emit(event)

    @property
    def is_stale(self) -> bool:
        """Whether what is held has not been confirmed for too long, as far as this process can know."""
        return ageing.is_stale(self.know, self._config.stale_after, self._config.polls_every, self._config.clock())

    @property
    def emptied(self) -> bool:
        """Whether clients must get no flags, because the quota is used up."""
        return are_emptied(self.know, self._config.settings)

    @property
    def shared(self) -> bool:
        """Whether the fleet's own store answers and has what is held, as far as this process knows."""
        held = self.know.held
        if held is None or not held.accepted or self.holds_unshareable:
            return False
        return held.store_name == self.stores.first.store_name and self.stores.first_answers and not self.view.foreign

    @property
    def holds_unshareable(self) -> bool:
        """Whether no store accepts what is held, so that each process must fetch it for itself."""
        held = self.know.held
        return held is not None and held.meta.version == self.encoded.unshareable

    @property
    def view(self) -> StoreView:
        """What is known of the fleet's store."""
        return self.know.view(self.stores.first.store_name)

    @property
    def active_view(self) -> StoreView:
        """What is known of the store that coordinates this process now: the fleet's, or the one that replaces it."""
        return self.know.view(self.stores.in_charge.store_name)

    def store_failed(self, managed: ManagedStore, reason: StoreError) -> None:
        """A store did not answer: open its circuit breaker and forget its lease."""
        self.stores.failed(managed, reason)
        self.lease_lost(managed)

    def lease_extended(self, managed: ManagedStore, lease: float) -> None:
        """The lease of this store, if this process has it, lasts `lease` seconds from now."""
        now = self._config.clock()
        self.update(lambda know: renewals.extended(know, managed.store_name, lease, now))

    def lease_released(self, managed: ManagedStore) -> None:
        """This process has just released the lease of this store, if it had it, so the lease is free."""
        now = self._config.clock()
        self.update(lambda know: renewals.released(know, managed.store_name, now))
        self.lease_lost(managed)

    def lease_lost(self, managed: ManagedStore) -> None:
        """This process neither leads in this store nor is its deputy, until a reply says so again."""
        with self.lock:
            led = self.know.view(managed.store_name).leads
            self.know = renewals.lost(self.know, managed.store_name)
        if led:
            self.report_leadership(managed.store_name, leads=False)

    def report_leadership(self, store_name: str, *, leads: bool) -> None:
        """Report that this process leads in this store, or no longer does."""
        self.emit(self._leadership.changed(store_name, leads=leads))

    def emit(self, event: Event | None) -> None:
        """Emit an event, if there is one."""
        if event is not None:
            self._config.events.emit(event)
