"""One process's questions to its stores, and what it does about the answers.

Must never keep what did not pass `Vendor.check`, nor use what another project wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flagcache import election, envelope
from flagcache.errors import EnvelopeError, StoreError
from flagcache.events import (
    DefinitionsRepaired,
    ForeignProject,
    LateFetchRefused,
    LeadershipLost,
    LeadershipTaken,
    PayloadRefused,
)
from flagcache.ledger import Ledger
from flagcache.plan import Plan
from flagcache.settings import milliseconds
from flagcache.stores.base import Envelope, Grant, Published, Reply, Store, Subscribable, Subscription
from flagcache.tiers import Tier

__all__ = ["Answer", "Exchange"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What matters of a store's answer to the thread that asked."""

    home: str
    """The store that answered."""
    grant: Grant | None
    clock: int
    """The store's clock."""
    at: float
    """This process's own clock when it asked."""


class Exchange:
    """Asks the stores of one process.

    Args:
        plan: what all processes of the cache have in common.
        ledger: what this process knows.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger

    def ask(self, *, may_lead: bool, idle: bool) -> Answer | None:
        """Poll the first store that answers and is not another project's; None if there is none."""
        base = replace(
            election.template(self._ledger.me, self._plan.settings, self._plan.lease), may_lead=may_lead, idle=idle
        )
        for tier, store in self._ledger.tiers.usable():
            # Ages in the answer count from here: it may lie unread for as long as this process is frozen.
            asked = self._plan.clock()
            ask = election.ask_for(base, self._ledger.know, tier.home, asked)
            try:
                reply = store.poll(replace(ask, interval=round(ask.interval * tier.spec.pace)))
            except StoreError as exc:
                self._ledger.lost(tier, exc)
                continue
            self._ledger.tiers.answered(tier)
            if self._hear(tier, reply, asked):
                answer = Answer(tier.home, reply.grant, reply.clock, asked)
                self._obey(tier, store, reply, answer)
                return answer
            if reply.leads:  # it is not ours to lead: whoever belongs there is to take over at once
                self._release(tier, store, idle=False)
        return None

    def _hear(self, tier: Tier, reply: Reply, asked: float) -> bool:
        """Take in who leads and what is stored; False if that is another project's."""
        with self._ledger.lock:
            before = self._ledger.know.contact(tier.home)
            self._ledger.know = election.heard(self._ledger.know, tier.home, reply, self._plan.clock(), asked)
            contact = self._ledger.know.contact(tier.home)
        if contact.leads != before.leads:
            self._ledger.emit((LeadershipTaken if contact.leads else LeadershipLost)(self._plan.namespace, tier.home))
        if contact.foreign and not before.foreign and contact.stored is not None:
            self._ledger.emit(
                ForeignProject(self._plan.namespace, tier.home, self._ledger.know.project, contact.stored.project)
            )
        return not contact.foreign

    def _obey(self, tier: Tier, store: Store, reply: Reply, answer: Answer) -> None:
        """Take what the store sent, or repair it. A store that fails now has still given its grant."""
        try:
            if reply.payload is not None and reply.meta is not None:
                self._adopt(tier, store, Envelope(reply.meta, reply.payload), answer)
            elif reply.republish:
                self._repair(tier, store, answer)
        except StoreError as exc:
            self._ledger.lost(tier, exc)

    def _adopt(self, tier: Tier, store: Store, stored: Envelope, answer: Answer) -> None:
        """Take what the store holds, or have it dropped so that somebody repairs it."""
        meta, limit = stored.meta, self._plan.settings.max_decoded_bytes
        try:
            definitions = self._plan.vendor.check(envelope.decode(stored.payload, version=meta.version, limit=limit))
        except EnvelopeError as exc:
            store.discard(self._ledger.me, meta.version)
            self._ledger.emit(PayloadRefused(self._plan.namespace, meta.version, tier.home, str(exc)))
            return
        self._ledger.take(election.told(tier.home, meta, definitions, answer.clock, answer.at), fetched=False)

    def _repair(self, tier: Tier, store: Store, answer: Answer) -> None:
        """Give the store what it lost, as old as it is. What no store ever took is refused if others moved on."""
        held = self._ledger.know.held
        if held is None:
            return
        meta = election.repair(held, tier.home, answer.clock, answer.at)
        payload = envelope.encode(held.definitions, meta.version)
        published = store.publish(
            self._ledger.me, Envelope(meta, payload), fresh=not held.accepted, lease=milliseconds(self._plan.lease)
        )
        if published is not Published.STALE:
            self._ledger.extended(tier, self._plan.lease)
        elif held.accepted:
            return  # somebody was quicker; the next poll tells
        kept = replace(held, meta=meta, home=tier.home, accepted=True)
        if published is Published.STALE:
            kept = election.overtaken(held)
        self._ledger.learn(lambda know: replace(know, held=kept) if know.held is held else know)
        if published is Published.STALE:
            self._ledger.emit(LateFetchRefused(self._plan.namespace, meta.version, tier.home))
        elif published is Published.STORED:
            self._ledger.emit(DefinitionsRepaired(self._plan.namespace, meta.version, tier.home))

    def renew(self) -> None:
        """Keep the lease of the fleet's store, if this process has it."""
        tier = self._ledger.tiers.first
        found = self._ledger.tiers.named(tier.home)
        contact = self._ledger.know.contact(tier.home)
        cold = contact.stored is None and self._ledger.know.held is None
        lease = min(self._plan.lease, self._plan.settings.cold_lease) if cold else self._plan.lease
        try:
            kept = found is not None and found[1].renew(self._ledger.me, milliseconds(lease))
        except StoreError as exc:
            return self._ledger.lost(tier, exc)
        return self._ledger.extended(tier, lease) if kept else self._ledger.forget_leadership(tier)

    def subscribe(self) -> Subscription | None:
        """Listen to the fleet's store; None where it is away or tells nothing."""
        found = self._ledger.tiers.named(self._ledger.tiers.first.home)
        if found is None:
            return None
        store = found[1]
        if not isinstance(store, Subscribable):
            return None
        try:
            return store.subscribe()
        except StoreError:
            return None  # notices are but a hint: polls alone tell whether the store answers

    def leave(self, *, idle: bool) -> None:
        """Give up the leases and close what is open. A later call opens it again."""
        for tier, store in self._ledger.tiers.usable():
            if self._ledger.know.contact(tier.home).leads:
                self._release(tier, store, idle=idle)
        self._ledger.tiers.close()

    def _release(self, tier: Tier, store: Store, *, idle: bool) -> None:
        try:
            store.release(self._ledger.me, idle=idle)
        except StoreError as exc:
            self._ledger.lost(tier, exc)
        self._ledger.forget_leadership(tier)
