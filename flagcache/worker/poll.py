"""One process's questions to its stores, and what it does about the answers.

Must never use what its `Reader` has not verified, nor what another project wrote.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from flagcache.core import ageing, first_load
from flagcache.core import knowledge as election
from flagcache.core.knowledge import Contact
from flagcache.core.renewals import with_last_renewal
from flagcache.errors import StoreError
from flagcache.events import Event, ForeignProject, ForeignProjectGone, LateFetchRefused
from flagcache.runtime.callers import within
from flagcache.settings import milliseconds
from flagcache.stores.abilities import Subscribable, Subscription
from flagcache.stores.base import Ask, Published, Replacing, Reply, Store
from flagcache.worker import troubles
from flagcache.worker.compatibility import Generations
from flagcache.worker.config import Plan
from flagcache.worker.failover import Tier
from flagcache.worker.grants import Errand
from flagcache.worker.lease_doubts import LeaseDoubts
from flagcache.worker.repairs import Repairs
from flagcache.worker.state import Ledger
from flagcache.worker.verify import Heard, Reader

__all__ = ["Exchange", "Manner"]


class Manner(NamedTuple):
    """What a process wants of a store, and does, at the moment when it asks (`flagcache.stores.base.Ask`)."""

    may_lead: bool
    idle: bool
    reports: bool = False
    listens: bool = False
    watches: bool = False
    starts: bool = False


class Exchange:
    """Asks the stores of one process.

    Args:
        plan: what all processes of the cache have in common.
        ledger: what this process knows.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self._reader = Reader(plan, ledger)
        self._generations = Generations(plan, ledger)
        self._repairs = Repairs(plan, ledger)
        self._doubts = LeaseDoubts(plan.settings.fetch_total_timeout)

    def ask(self, manner: Manner, *, serve_first: bool = False) -> Errand | None:
        """Poll the first store that answers and is not another project's; None if there is none.

        Args:
            manner: what this process wants and does at this moment.
            serve_first: only for unknown clients. Leave a grant that comes with young definitions for the next poll,
                which is given it again: a client that has none yet starts with these, and not with a request that may
                fail.
        """
        self._ledger.learn(lambda know: ageing.settled(know, self._plan.settings.challenge_after, self._plan.clock()))
        base = election.template(self._ledger.me, self._plan.settings, self._plan.lease)
        base = base._replace(**manner._asdict(), largest=self._plan.codec.largest)
        for tier, store in self._ledger.tiers.usable():
            try:
                heard, asked = self._read(tier, store, base._replace(interval=round(base.interval * tier.spec.pace)))
            except StoreError as exc:
                self._ledger.lost(tier, exc)
                continue
            heard = self._replace(tier, store, heard)
            heard = heard._replace(reply=self._generations.hears(tier.home, heard.reply))
            deferred = False
            if serve_first and heard.definitions is not None:
                reply, deferred = first_load.defer_grant(heard.reply, self._plan.settings)
                heard = heard._replace(reply=reply)
            reply = heard.reply
            if self._hear(tier, heard.reply, asked) and heard.usable:
                answer = Errand(tier.home, reply.grant, reply.clock, asked, deferred)
                self._obey(tier, store, heard, answer)
                if not reply.leads or not self._generations.abstains(tier.home):
                    return answer
                self._release(tier, store, idle=manner.idle)  # it took the lease before it had read what is there
                return answer._replace(grant=None)
            if reply.leads:  # wrong project: release the lease so that a right worker can take over
                self._release(tier, store, idle=False)
        return None

    def _read(self, tier: Tier, store: Store, base: Ask) -> tuple[Heard, float]:
        """Poll one store and verify its answer; once more at once if that has been made readable meanwhile."""
        reply, asked = self._poll(tier, store, base)
        self._ledger.tiers.answered(tier, wrote=reply.grant is not None)
        heard = self._reader.read(tier, store, reply)
        if heard.again:
            reply, asked = self._poll(tier, store, base)  # it grants again what it granted
            heard = self._reader.read(tier, store, reply)
        return heard, asked

    def _poll(self, tier: Tier, store: Store, base: Ask) -> tuple[Reply, float]:
        """Poll one store; return its answer, and the own clock before the question, from which ages in it count.

        A call longer than `store_timeout` means that this process was suspended, so the reply may be arbitrarily old.
        Poll again; an open grant is re-issued. A reader may have waited for definitions over a slow link, and gets no
        grants.
        """
        asked = self._plan.clock()
        reply = store.poll(self._question(tier, base, asked))
        slow_link = self._plan.settings.reads_only and reply.payload is not None
        if self._plan.clock() - asked > self._plan.settings.store_timeout and not slow_link:
            asked = self._plan.clock()
            with within(self._plan.settings.store_timeout, anew=True):
                reply = store.poll(self._question(tier, base, asked))
        return reply, asked

    def _question(self, tier: Tier, base: Ask, now: float) -> Ask:
        ask = election.ask_for(base, self._ledger.know, tier.home, now)
        ask = self._doubts.asks(ask, self._ledger.know, tier.home, now)
        if self._ledger.alone_with_it and not self._ledger.know.contact(tier.home).leads:
            ask = ask._replace(challenge=2 * ask.challenge)  # those that do not have it go first
        return self._reader.asks(self._generations.asks(ask, tier.home), tier.home)

    def _hear(self, tier: Tier, reply: Reply, asked: float) -> bool:
        """Take in who leads and what is stored; False if that is another project's."""
        found = reply.meta or (self._ledger.know.held.meta if reply.unchanged and self._ledger.know.held else None)
        if found is not None and not reply.republish:
            tier.held = found.version
        with self._ledger.lock:
            before = self._ledger.know.contact(tier.home)
            know = election.heard(self._ledger.know, tier.home, reply, self._plan.clock(), asked)
            self._ledger.know = with_last_renewal(know, tier.home, before)
            contact = self._ledger.know.contact(tier.home)
            foreign = self._look_at_project(tier.home, contact)
        if contact.leads != before.leads:
            self._ledger.tell_leadership(tier.home, leads=contact.leads)
        self._ledger.emit(foreign)
        return not contact.foreign

    def _look_at_project(self, home: str, contact: Contact) -> Event | None:
        """The event to emit about a foreign project, or about its end."""
        namespace, known = self._plan.namespace, self._ledger.troubles
        if not contact.foreign or contact.stored is None:
            return known.found(troubles.FOREIGN_PROJECT, partial(ForeignProjectGone, namespace), store=home)
        made = partial(ForeignProject, namespace, home, self._ledger.know.project, contact.stored.project)
        empty = self._ledger.know.held is None or self._ledger.emptied
        told = partial(made, empty=empty, fetches=not self._plan.settings.reads_only)
        return known.lost(troubles.FOREIGN_PROJECT, "foreign_project", told, home)

    def _obey(self, tier: Tier, store: Store, heard: Heard, answer: Errand) -> None:
        """Take what the store sent, or repair it. A store that fails now has still given its grant."""
        reply = heard.reply
        if reply.meta is not None and heard.definitions is not None:
            if self._generations.takes(tier.home, reply.meta, heard.definitions):
                self._reader.take(tier.home, reply, heard.definitions, answer.asked_at)
            return
        try:
            if self._plan.settings.reads_only:
                return  # it writes nothing
            if reply.republish:
                self._repair(tier, store, reply)
            elif reply.leads:
                self._protect_anew(tier, store, reply.clock)
        except StoreError as exc:
            self._ledger.lost(tier, exc)

    def _protect_anew(self, tier: Tier, store: Store, clock: int) -> None:
        """Replace what an old key protects, while all still have it."""
        held = self._ledger.know.held
        if held is not None and self._reader.tell_outdated(tier.home, held.meta.version):
            self._give(tier, store, clock)

    def _replace(self, tier: Tier, store: Store, heard: Heard) -> Heard:
        """Put what is held in the place of what this process lacks the key of, if it may be."""
        if not heard.replaceable:
            return heard
        place = Replacing(heard.replaceable, milliseconds(self._plan.settings.refresh_interval))
        try:
            published, held = self._give(tier, store, heard.reply.clock, place), self._ledger.know.held
        except StoreError as exc:
            self._ledger.lost(tier, exc)
            return heard
        if published is not Published.STORED or held is None:
            return heard
        self._reader.replaced(tier)
        self._repairs.replaced(held.meta.version, tier)
        return heard._replace(usable=True)

    def _repair(self, tier: Tier, store: Store, reply: Reply) -> None:
        """Give the store what it lost, as old as it is. One that only takes over lost nothing."""
        had, stored = self._ledger.know.held, tier.held
        published, held = self._give(tier, store, reply.clock), self._ledger.know.held
        if published is Published.STORED and held is not None and tier is self._ledger.tiers.first:
            had_it = had is None or (had.accepted and had.home == tier.home) or stored == had.meta.version
            behind, known = reply.meta is not None and not had_it, had_it or bool(stored)
            self._repairs.made(held.meta.version, tier, store, behind=behind, known=known)

    def _give(self, tier: Tier, store: Store, clock: int, place: Replacing | None = None) -> Published | None:
        """Publish what is held. What no store ever took is refused if others moved on.

        Args:
            tier: the store.
            store: the same.
            clock: its clock.
            place: only in the place of that.
        """
        held = self._ledger.know.held
        if held is None:
            return None
        meta = election.repair(held, tier.home, clock, self._plan.clock())
        envelope = self._ledger.envelope(held, meta)
        if envelope is None:
            return None
        lease = milliseconds(self._plan.lease)
        published = store.publish(self._ledger.me, envelope, fresh=not held.accepted, lease=lease, replacing=place)
        if published in (Published.STORED, Published.CONFIRMED):
            self._ledger.tiers.answered(tier, wrote=True, stored=published is Published.STORED)
            tier.held = meta.version
            self._ledger.extended(tier, self._plan.lease)
        elif held.accepted or published is Published.UNSETTLED or place is not None or self._ledger.know.signs:
            return published  # another process was quicker, or the order is still open or unsigned: the next poll tells
        kept = held._replace(meta=meta, home=tier.home, accepted=True, unsettled=None)
        if published is Published.STALE:
            kept = election.overtaken(held)
            self._ledger.emit(LateFetchRefused(self._plan.namespace, meta.version, tier.home))
        self._ledger.learn(lambda know: know._replace(held=kept) if know.held is held else know)
        return published

    def renew(self) -> None:
        """Keep the lease of the store in charge, if this process has it."""
        tier = self._ledger.tiers.in_charge
        found = self._ledger.tiers.named(tier.home)
        if found is None:
            return self._ledger.forget_leadership(tier)
        contact = self._ledger.know.contact(tier.home)
        cold = contact.stored is None and self._ledger.know.held is None
        lease = min(self._plan.lease, self._plan.settings.cold_lease) if cold else self._plan.lease
        try:
            kept = found[1].renew(self._ledger.me, milliseconds(lease))
        except StoreError as exc:
            return self._ledger.lost(tier, exc)
        self._ledger.tiers.answered(tier, wrote=kept)
        return self._ledger.extended(tier, lease) if kept else self._ledger.forget_leadership(tier)

    def subscribe(self) -> Subscription | None:
        """Listen to the fleet's store; None if it is in trouble or has no notices.

        Raises:
            StoreError: it refuses, which is no trouble yet: polls alone show whether a store answers.
        """
        tiers = self._ledger.tiers
        found = tiers.named(tiers.first.home) if tiers.first_answers else None
        if found is None or not isinstance(found[1], Subscribable):
            return None
        return found[1].subscribe()

    def leave(self, *, idle: bool) -> None:
        """Give up the leases and close what is open. A later call opens it again."""
        self.stand_down(idle=idle)
        self._ledger.tiers.close()

    def stand_down(self, *, idle: bool) -> None:
        """Give up the leases."""
        for home in self._ledger.tiers.homes:
            contact = self._ledger.know.contact(home)
            if (contact.leads or contact.deputy) and (found := self._ledger.tiers.named(home)):
                self._release(*found, idle=idle)

    def _release(self, tier: Tier, store: Store, *, idle: bool) -> None:
        try:
            store.release(self._ledger.me, idle=idle)
        except StoreError as exc:
            self._ledger.lost(tier, exc)
        else:
            self._ledger.tiers.answered(tier)
        self._ledger.forget_leadership(tier)
