"""One process of a fleet: asks its stores, obeys the election, and keeps what it holds.

A `Worker` belongs to one pid; `flagcache.coordinator` makes a new one in each forked child. What the process knows is
one immutable value, swapped under the lock; stores are asked outside it. Must never hand out what did not pass
`Vendor.check`, and never asks the vendor itself.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from flagcache import election, envelope, process
from flagcache.cold_start import wait_for_first
from flagcache.election import Held, Knowledge
from flagcache.errors import EnvelopeError, StoreError
from flagcache.events import (
    ColdStartExpired,
    DefinitionsChanged,
    DefinitionsRepaired,
    Event,
    Events,
    ForeignProject,
    LateFetchRefused,
    LeadershipLost,
    LeadershipTaken,
    OwnFetchFailed,
    PayloadRefused,
)
from flagcache.settings import SLOW_FETCH, Settings
from flagcache.stores.base import Envelope, Grant, Meta, Published, Reply, Scope, Store
from flagcache.tiers import StoreSpec, Tier, Tiers
from flagcache.vendor import Definitions, Vendor

__all__ = ["Plan", "Worker"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What all processes of one cache object have in common."""

    namespace: str
    settings: Settings
    vendor: Vendor
    stores: tuple[StoreSpec, ...]
    events: Events
    clock: Callable[[], float] = process.clock


@dataclass(frozen=True, slots=True)
class _Errand:
    """A fetch that a thread was sent on."""

    home: str
    grant: Grant | None
    asked: int
    """The store's clock when this thread asked it."""
    began: float


class _Thread(threading.local):
    """What one thread is about: the SDK asks, fetches and delivers on the same one."""

    errand: _Errand | None = None


class _Flight:
    """A poll under way, which other threads of the process wait for instead of making their own."""

    def __init__(self) -> None:
        self.landed = threading.Event()


class Worker:
    """One process's part in a fleet.

    Args:
        plan: what all processes of the cache have in common.
        know: what this process knows from its parent.
    """

    def __init__(self, plan: Plan, know: Knowledge) -> None:
        self.me = process.identity()
        self.know = know
        self._plan = plan
        self._base = election.template(self.me, plan.settings)
        self._tiers = Tiers(
            plan.stores,
            longest_pause=plan.settings.poll_interval * 0.8,
            clock=plan.clock,
            events=plan.events,
            namespace=plan.namespace,
        )
        self._lock = threading.RLock()  # reentrant: a signal handler may shut down the client that it interrupted
        self._flight: _Flight | None = None
        self._out: _Errand | None = None
        self._thread = _Thread()
        self._cold_start = threading.Lock()
        self._arrived = threading.Event()

    def should_fetch(self) -> bool:
        """Ask the store; True sends the calling thread to fetch."""
        self._come_back()
        return self._poll() is not None

    def definitions(self) -> Definitions | None:
        """What this process holds; waits for the first ones. None sends a thread to fetch that was granted it."""
        if self.know.held is None and not self.know.gave_up_waiting:
            self._wait()
        held = self.know.held
        if held is not None:
            return held.definitions
        errand = self._thread.errand
        return None if errand and errand.grant else self._plan.vendor.empty()

    def received(self, definitions: object) -> None:
        """Take in and publish what the calling thread has fetched."""
        errand, self._thread.errand = self._thread.errand, None
        checked = self._plan.vendor.check(definitions)
        project = self._plan.vendor.project(checked)
        with self._lock:
            if self._out is errand:
                self._out = None
            self.know = replace(self.know, received=True, failures=0, project=project or self.know.project)
        # A thread that never asked may have begun its fetch long ago: taken for as old as a fetch can be.
        errand = errand or _Errand("", None, 0, self._plan.clock() - SLOW_FETCH)
        times = election.stamp(self.know, errand.home, errand.grant, errand.asked)
        meta = Meta(
            version=envelope.digest(checked),
            epoch=times.epoch,
            as_of=times.as_of,
            changed_at=times.at,
            confirmed_at=times.at,
            writer=self._plan.vendor.writer,
            project=project,
        )
        held = self._offer(Held(meta, checked, errand.home, errand.began, accepted=False), times)
        if held is not None:
            self._take(held, fetched=True)

    def shutdown(self) -> None:
        """Give up the lease and close what is open. A later call starts anew."""
        for tier, store in self._tiers.usable():
            if self.know.contact(tier.home).leads:
                try:
                    store.release(self.me, idle=self._idle())
                except StoreError as exc:
                    self._lost(tier, exc)
                self._forget_leadership(tier)
        self._tiers.close()

    @property
    def store_answers(self) -> bool:
        """Whether the fleet's own store answered when it was last asked."""
        return self._tiers.first_answers

    # --- polls -------------------------------------------------------------------------------------------------------

    def _poll(self) -> Grant | None:
        """Ask the stores, once for all threads that want to know now. A grant belongs to the thread that asked."""
        with self._lock:
            flight, leads = self._flight, self._flight is None
            if flight is None:
                flight = self._flight = _Flight()
        if not leads:
            flight.landed.wait(2 * self._plan.settings.store_timeout)
            return None
        try:
            return self._ask()
        finally:
            self._flight = None
            flight.landed.set()

    def _ask(self) -> Grant | None:
        for tier, store in self._tiers.usable():
            ask = election.ask_for(self._base, self.know, tier.home, self._plan.clock(), idle=self._idle())
            try:
                reply = store.poll(replace(ask, interval=round(ask.interval * tier.spec.pace)))
            except StoreError as exc:
                self._lost(tier, exc)
                continue
            self._tiers.answered(tier)
            if self._hear(tier, reply):
                self._obey(tier, store, reply)
                return reply.grant
        return None

    def _hear(self, tier: Tier, reply: Reply) -> bool:
        """Take in who leads and what is stored; False if that is another project's: the next store is asked then."""
        now = self._plan.clock()
        with self._lock:
            before = self.know.contact(tier.home)
            self.know = election.heard(self.know, tier.home, reply, now)
            contact = self.know.contact(tier.home)
            if not contact.foreign:
                self._thread.errand = _Errand(tier.home, reply.grant, reply.clock, now)
                self._out = self._thread.errand if reply.grant else self._out
        if contact.leads != before.leads:
            self._emit((LeadershipTaken if contact.leads else LeadershipLost)(self._plan.namespace, tier.home))
        if contact.foreign and not before.foreign and contact.stored is not None:
            self._emit(ForeignProject(self._plan.namespace, tier.home, self.know.project, contact.stored.project))
        return not contact.foreign

    def _obey(self, tier: Tier, store: Store, reply: Reply) -> None:
        """Take what the store sent, or repair it. A store that fails now has still given its grant."""
        try:
            if reply.payload is not None and reply.meta is not None:
                self._adopt(tier, store, reply.meta, reply.payload, reply.clock)
            elif reply.republish:
                self._repair(tier, store, reply.clock)
        except StoreError as exc:
            self._lost(tier, exc)

    def _adopt(self, tier: Tier, store: Store, meta: Meta, payload: bytes, clock: int) -> None:
        """Take what the store holds, or have it dropped so that somebody repairs it."""
        limit = self._plan.settings.max_decoded_bytes
        try:
            definitions = self._plan.vendor.check(envelope.decode(payload, version=meta.version, limit=limit))
        except EnvelopeError as exc:
            store.discard(self.me, meta.version)
            self._emit(PayloadRefused(self._plan.namespace, meta.version, tier.home, str(exc)))
            return
        self._take(election.told(tier.home, meta, definitions, clock, self._plan.clock()), fetched=False)

    def _repair(self, tier: Tier, store: Store, clock: int) -> None:
        """Give the store what it lost, as old as it is. What no store ever took is refused if others moved on."""
        held = self.know.held
        if held is None:
            return
        meta = election.repair(held, tier.home, clock, self._plan.clock())
        payload = envelope.encode(held.definitions, meta.version)
        published = store.publish(self.me, Envelope(meta, payload), fresh=not held.accepted, lease=self._base.lease)
        if published is Published.STALE and held.accepted:
            return  # somebody was quicker; the next poll tells
        kept = replace(held, meta=meta, home=tier.home, accepted=True)
        with self._lock:
            if self.know.held is held:
                kept = election.overtaken(held) if published is Published.STALE else kept
                self.know = replace(self.know, held=kept)
        if published is Published.STALE:
            self._emit(LateFetchRefused(self._plan.namespace, meta.version, tier.home))
        elif published is Published.STORED:
            self._emit(DefinitionsRepaired(self._plan.namespace, meta.version, tier.home))

    # --- fetches -----------------------------------------------------------------------------------------------------

    def _come_back(self) -> None:
        """The thread asks again: the fetch that it was sent on has ended, and brought nothing.

        A process that never received definitions has no entity tag, so that its silence cannot mean "unchanged".
        """
        errand, self._thread.errand = self._thread.errand, None
        with self._lock:
            if errand is None or errand is not self._out:
                return
            self._out = None
            if self.know.received:
                return
            self.know = election.failed(self.know, self._plan.settings, self._plan.clock(), random.random())
        self._emit(OwnFetchFailed(self._plan.namespace, self.know.stay_out_until - self._plan.clock()))
        found = self._tiers.named(errand.home)
        if found and errand.grant:
            tier, store = found
            try:
                store.fail(self.me, errand.grant.as_of, Scope.MINE)
            except StoreError as exc:
                self._lost(tier, exc)
            self._forget_leadership(tier)

    def _idle(self) -> bool:
        """Whether no thread is out fetching. One that never came back counts as lost after the longest fetch."""
        out = self._out
        return out is None or self._plan.clock() - out.began > SLOW_FETCH

    def _offer(self, held: Held, times: Grant) -> Held | None:
        """Give the store what was fetched; None if it was refused as late, and then it is not to be kept.

        A store that cannot be reached refuses nothing yet: what is held is offered to the store that answers next.
        """
        found = self._tiers.named(held.home)
        if found is None or election.is_foreign(self.know, self.know.contact(held.home).stored):
            return held
        tier, store = found
        try:
            published = self._publish(tier, store, held, times)
        except StoreError as exc:
            self._lost(tier, exc)
            return held
        if published is Published.STALE:
            self._emit(LateFetchRefused(self._plan.namespace, held.meta.version, tier.home))
            return None
        return replace(held, accepted=True)

    def _publish(self, tier: Tier, store: Store, held: Held, times: Grant) -> Published:
        meta, stored, lease = held.meta, self.know.contact(tier.home).stored, self._base.lease
        known = stored is not None and stored.version == meta.version
        if known and store.confirm(self.me, meta.version, times, lease=lease):
            return Published.CONFIRMED
        payload = envelope.encode(held.definitions, meta.version)
        return store.publish(self.me, Envelope(meta, payload), fresh=True, lease=lease)

    # --- what is held ------------------------------------------------------------------------------------------------

    def _take(self, held: Held, *, fetched: bool) -> None:
        with self._lock:
            before = self.know.held
            self.know = election.hold(self.know, held)
            taken = self.know.held is held
        self._arrived.set()
        previous = before.meta.version if before else ""
        if taken and previous != held.meta.version:
            self._emit(DefinitionsChanged(self._plan.namespace, held.meta.version, previous, fetched))

    def _wait(self) -> None:
        """Wait for the first definitions: one wait a process, however many threads want them."""
        began = self.know.waiting_since
        if began is None:  # no store ever answered, so that there is none to wait for
            return
        deadline = began + self._plan.settings.cold_start_wait
        left = deadline - self._plan.clock()
        if left <= 0 or not self._cold_start.acquire(timeout=left):
            return self._give_up_waiting(began)
        try:
            wait_for_first(self._look_again, self._arrived, deadline - self._plan.clock())
        finally:
            self._cold_start.release()
        if self.know.held is None and not self._sent_out():
            self._give_up_waiting(began)

    def _look_again(self) -> bool:
        """Whether the wait is over: definitions came, this thread may fetch, or nobody may."""
        if self.know.held is None and not self._sent_out():
            self._arrived.clear()
            self._poll()
        return self.know.held is not None or self._sent_out()

    def _sent_out(self) -> bool:
        errand = self._thread.errand
        return errand is not None and errand.grant is not None

    def _give_up_waiting(self, began: float) -> None:
        with self._lock:
            first = self.know.held is None and not self.know.gave_up_waiting
            self.know = replace(self.know, gave_up_waiting=True) if first else self.know
        if first:
            self._emit(ColdStartExpired(self._plan.namespace, self._plan.clock() - began))

    # --- small change ------------------------------------------------------------------------------------------------

    def _lost(self, tier: Tier, reason: StoreError) -> None:
        self._tiers.lost(tier, reason)
        self._forget_leadership(tier)

    def _forget_leadership(self, tier: Tier) -> None:
        with self._lock:
            contact = self.know.contact(tier.home)
            self.know = self.know.with_contact(tier.home, replace(contact, leads=False))
        if contact.leads:
            self._emit(LeadershipLost(self._plan.namespace, tier.home))

    def _emit(self, event: Event) -> None:
        self._plan.events.emit(event)
