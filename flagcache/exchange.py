"""One process's dealings with its stores: asks, obeys the election, repairs, and keeps what it holds.

What the process knows is one immutable value, swapped under the lock; stores are asked outside it. Must never keep what
did not pass `Vendor.check`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from flagcache import election, envelope, process
from flagcache.election import Held, Knowledge
from flagcache.errors import EnvelopeError, StoreError
from flagcache.events import (
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
from flagcache.settings import Settings
from flagcache.stores.base import Envelope, Grant, Meta, Published, Reply, Scope, Store
from flagcache.tiers import StoreSpec, Tier, Tiers
from flagcache.vendor import Vendor

__all__ = ["Answer", "Exchange", "Plan"]


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
class Answer:
    """What matters of a store's answer to the thread that asked."""

    home: str
    """The store that answered."""
    grant: Grant | None
    clock: int
    """The store's clock."""
    at: float
    """This process's own clock."""


class Exchange:
    """The stores of one process, and what the process knows.

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

    def learn(self, change: Callable[[Knowledge], Knowledge]) -> None:
        """Swap what is known for what follows from it."""
        with self._lock:
            self.know = change(self.know)

    # --- asking ------------------------------------------------------------------------------------------------------

    def ask(self, *, idle: bool) -> Answer | None:
        """Poll the first store that answers and is not another project's; None if there is none."""
        for tier, store in self._tiers.usable():
            ask = election.ask_for(self._base, self.know, tier.home, self._plan.clock(), idle=idle)
            try:
                reply = store.poll(replace(ask, interval=round(ask.interval * tier.spec.pace)))
            except StoreError as exc:
                self._lost(tier, exc)
                continue
            self._tiers.answered(tier)
            now = self._plan.clock()
            if self._hear(tier, reply, now):
                self._obey(tier, store, reply)
                return Answer(tier.home, reply.grant, reply.clock, now)
            if reply.leads:  # it is not ours to lead: whoever belongs there is to take over at once
                self._release(tier, store, idle=False)
        return None

    def _hear(self, tier: Tier, reply: Reply, now: float) -> bool:
        """Take in who leads and what is stored; False if that is another project's."""
        with self._lock:
            before = self.know.contact(tier.home)
            self.know = election.heard(self.know, tier.home, reply, now)
            contact = self.know.contact(tier.home)
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
        self.take(election.told(tier.home, meta, definitions, clock, self._plan.clock()), fetched=False)

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
        if published is Published.STALE:
            kept = election.overtaken(held)
        self.learn(lambda know: replace(know, held=kept) if know.held is held else know)
        if published is Published.STALE:
            self._emit(LateFetchRefused(self._plan.namespace, meta.version, tier.home))
        elif published is Published.STORED:
            self._emit(DefinitionsRepaired(self._plan.namespace, meta.version, tier.home))

    # --- telling -----------------------------------------------------------------------------------------------------

    def offer(self, held: Held, times: Grant) -> None:
        """Give the store what was just fetched, and keep it, unless it is refused as late.

        A store that cannot be reached refuses nothing yet: what is held is offered to the store that answers next.
        """
        found = self._tiers.named(held.home)
        if found is not None and not election.is_foreign(self.know, self.know.contact(held.home).stored):
            tier, store = found
            try:
                published = self._publish(tier, store, held, times)
            except StoreError as exc:
                self._lost(tier, exc)
            else:
                if published is Published.STALE:
                    self._emit(LateFetchRefused(self._plan.namespace, held.meta.version, tier.home))
                    return
                held = replace(held, accepted=True)
        self.take(held, fetched=True)

    def _publish(self, tier: Tier, store: Store, held: Held, times: Grant) -> Published:
        meta, stored, lease = held.meta, self.know.contact(tier.home).stored, self._base.lease
        known = stored is not None and stored.version == meta.version
        if known and store.confirm(self.me, meta.version, times, lease=lease):
            return Published.CONFIRMED
        payload = envelope.encode(held.definitions, meta.version)
        return store.publish(self.me, Envelope(meta, payload), fresh=True, lease=lease)

    def own_fetch_failed(self, home: str, grant: Grant) -> None:
        """A fetch of this process certainly failed: give up the lease and stay out for a while."""
        self.learn(lambda know: election.failed(know, self._plan.settings, self._plan.clock(), random.random()))
        self._emit(OwnFetchFailed(self._plan.namespace, self.know.stay_out_until - self._plan.clock()))
        found = self._tiers.named(home)
        if found is None:
            return
        tier, store = found
        try:
            store.fail(self.me, grant.as_of, Scope.MINE)
        except StoreError as exc:
            self._lost(tier, exc)
        self._forget_leadership(tier)

    def leave(self, *, idle: bool) -> None:
        """Give up the leases and close what is open. A later call opens it again."""
        for tier, store in self._tiers.usable():
            if self.know.contact(tier.home).leads:
                self._release(tier, store, idle=idle)
        self._tiers.close()

    def _release(self, tier: Tier, store: Store, *, idle: bool) -> None:
        try:
            store.release(self.me, idle=idle)
        except StoreError as exc:
            self._lost(tier, exc)
        self._forget_leadership(tier)

    def take(self, held: Held, *, fetched: bool) -> None:
        """Hold these definitions, unless newer ones came in meanwhile."""
        with self._lock:
            before = self.know.held
            self.know = election.hold(self.know, held)
            taken = self.know.held is held
        previous = before.meta.version if before else ""
        if taken and previous != held.meta.version:
            self._emit(DefinitionsChanged(self._plan.namespace, held.meta.version, previous, fetched))

    @property
    def store_answers(self) -> bool:
        """Whether the fleet's own store answered when it was last asked."""
        return self._tiers.first_answers

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
