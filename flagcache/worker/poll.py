"""One process's questions to its stores, and what it does about the answers.

Must never use what its `ReplyVerifier` has not verified, nor what another project wrote.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from flagcache.core import ageing, first_load, knowledge
from flagcache.core.knowledge import StoreView
from flagcache.core.renewals import with_last_renewal
from flagcache.errors import StoreError
from flagcache.events import Event, ForeignProject, ForeignProjectGone
from flagcache.runtime.callers import within
from flagcache.settings import milliseconds
from flagcache.stores.abilities import Subscribable, Subscription
from flagcache.stores.base import Ask, Published, Replacing, Reply, Store
from flagcache.worker import troubles
from flagcache.worker.compatibility import KeyCompatibility
from flagcache.worker.config import CacheConfig
from flagcache.worker.grants import PollOutcome
from flagcache.worker.lease_doubts import LeaseDoubts
from flagcache.worker.managed_store import ManagedStore
from flagcache.worker.publish import Publisher
from flagcache.worker.repairs import Repairs
from flagcache.worker.state import ProcessState
from flagcache.worker.verify import ReplyVerifier, VerifiedReply

__all__ = ["PollIntent", "StorePoller"]


class PollIntent(NamedTuple):
    """What a process wants of a store, and does, at the moment when it asks (`flagcache.stores.base.Ask`)."""

    may_lead: bool
    idle: bool
    reports: bool = False
    listens: bool = False
    watches: bool = False
    starts: bool = False


class StorePoller:
    """Asks the stores of one process.

    Args:
        config: what all processes of the cache have in common.
        state: what this process knows.
        publisher: writes to them.
    """

    def __init__(self, config: CacheConfig, state: ProcessState, publisher: Publisher) -> None:
        self._config = config
        self._state = state
        self._publisher = publisher
        self._verifier = ReplyVerifier(config, state)
        self._compatibility = KeyCompatibility(config, state)
        self._repairs = Repairs(config, state)
        self._lease_doubts = LeaseDoubts(config.settings.fetch_total_timeout)

    def poll(self, intent: PollIntent, *, serve_first: bool = False) -> PollOutcome | None:
        """Poll the first store that answers and is not another project's; None if there is none.

        Args:
            intent: what this process wants and does at this moment.
            serve_first: only for unknown clients. Leave a grant that comes with young definitions for the next poll,
                which is given it again: a client that has none yet starts with these, and not with a request that may
                fail.
        """
        self._state.update(
            lambda know: ageing.settled(know, self._config.settings.challenge_after, self._config.clock())
        )
        base = knowledge.template(self._state.me, self._config.settings, self._config.lease)
        base = base._replace(**intent._asdict(), max_payload=self._config.codec.largest)
        for managed, store in self._state.stores.usable():
            try:
                heard, asked = self._read(
                    managed, store, base._replace(interval=round(base.interval * managed.spec.pace))
                )
            except StoreError as exc:
                self._state.store_failed(managed, exc)
                continue
            heard = self._replace(managed, store, heard)
            heard = heard._replace(reply=self._compatibility.on_reply(managed.store_name, heard.reply))
            deferred = False
            if serve_first and heard.definitions is not None:
                reply, deferred = first_load.defer_grant(heard.reply, self._config.settings)
                heard = heard._replace(reply=reply)
            reply = heard.reply
            if self._apply(managed, heard.reply, asked) and heard.usable:
                answer = PollOutcome(managed.store_name, reply.grant, reply.clock, asked, deferred)
                self._act(managed, store, heard, answer)
                if not reply.leads or not self._compatibility.must_not_lead(managed.store_name):
                    return answer
                self._release(managed, store, idle=intent.idle)  # it took the lease before it had read what is there
                return answer._replace(grant=None)
            if reply.leads:  # wrong project: release the lease so that a right worker can take over
                self._release(managed, store, idle=False)
        return None

    def _read(self, managed: ManagedStore, store: Store, base: Ask) -> tuple[VerifiedReply, float]:
        """Poll one store and verify its answer; once more at once if that has been made readable meanwhile."""
        reply, asked = self._poll(managed, store, base)
        self._state.stores.answered(managed, wrote=reply.grant is not None)
        heard = self._verifier.verify(managed, store, reply)
        if heard.again:
            reply, asked = self._poll(managed, store, base)  # it grants again what it granted
            heard = self._verifier.verify(managed, store, reply)
        return heard, asked

    def _poll(self, managed: ManagedStore, store: Store, base: Ask) -> tuple[Reply, float]:
        """Poll one store; return its answer, and the own clock before the question, from which ages in it count.

        A call longer than `store_timeout` means that this process was suspended, so the reply may be arbitrarily old.
        Poll again; an open grant is re-issued. A reader may have waited for definitions over a slow link, and gets no
        grants.
        """
        asked = self._config.clock()
        reply = store.poll(self._build_poll(managed, base, asked))
        slow_link = self._config.settings.reads_only and reply.payload is not None
        if self._config.clock() - asked > self._config.settings.store_timeout and not slow_link:
            asked = self._config.clock()
            with within(self._config.settings.store_timeout, anew=True):
                reply = store.poll(self._build_poll(managed, base, asked))
        return reply, asked

    def _build_poll(self, managed: ManagedStore, base: Ask, now: float) -> Ask:
        ask = knowledge.build_poll(base, self._state.know, managed.store_name, now)
        ask = self._lease_doubts.adjust_poll(ask, self._state.know, managed.store_name, now)
        if self._state.alone_with_it and not self._state.know.view(managed.store_name).leads:
            ask = ask._replace(challenge=2 * ask.challenge)  # those that do not have it go first
        return self._verifier.adjust_poll(self._compatibility.adjust_poll(ask, managed.store_name), managed.store_name)

    def _apply(self, managed: ManagedStore, reply: Reply, asked: float) -> bool:
        """Take in who leads and what is stored; False if that is another project's."""
        found = reply.meta or (self._state.know.held.meta if reply.unchanged and self._state.know.held else None)
        if found is not None and not reply.republish:
            managed.held = found.version
        with self._state.lock:
            before = self._state.know.view(managed.store_name)
            know = knowledge.apply_reply(self._state.know, managed.store_name, reply, self._config.clock(), asked)
            self._state.know = with_last_renewal(know, managed.store_name, before)
            view = self._state.know.view(managed.store_name)
            foreign = self._look_at_project(managed.store_name, view)
        if view.leads != before.leads:
            self._state.report_leadership(managed.store_name, leads=view.leads)
        self._state.emit(foreign)
        return not view.foreign

    def _look_at_project(self, store_name: str, view: StoreView) -> Event | None:
        """The event to emit about a foreign project, or about its end."""
        namespace, known = self._config.namespace, self._state.troubles
        if not view.foreign or view.stored is None:
            return known.found(troubles.FOREIGN_PROJECT, partial(ForeignProjectGone, namespace), store=store_name)
        made = partial(ForeignProject, namespace, store_name, self._state.know.project, view.stored.project)
        empty = self._state.know.held is None or self._state.emptied
        told = partial(made, empty=empty, fetches=not self._config.settings.reads_only)
        return known.lost(troubles.FOREIGN_PROJECT, "foreign_project", told, store_name)

    def _act(self, managed: ManagedStore, store: Store, heard: VerifiedReply, answer: PollOutcome) -> None:
        """Take what the store sent, or repair it. A store that fails now has still given its grant."""
        reply = heard.reply
        if reply.meta is not None and heard.definitions is not None:
            if self._compatibility.accepts(managed.store_name, reply.meta, heard.definitions):
                self._verifier.adopt(managed.store_name, reply, heard.definitions, answer.asked_at)
            return
        try:
            if self._config.settings.reads_only:
                return  # it writes nothing
            if reply.republish:
                self._repair(managed, store, reply)
            elif reply.leads:
                self._protect_anew(managed, store, reply.clock)
        except StoreError as exc:
            self._state.store_failed(managed, exc)

    def _protect_anew(self, managed: ManagedStore, store: Store, clock: int) -> None:
        """Replace what an old key protects, while all still have it."""
        held = self._state.know.held
        if held is not None and self._verifier.tell_outdated(managed.store_name, held.meta.version):
            self._publisher.repair(managed, store, clock)

    def _replace(self, managed: ManagedStore, store: Store, heard: VerifiedReply) -> VerifiedReply:
        """Put what is held in the place of what this process lacks the key of, if it may be."""
        if not heard.replaceable:
            return heard
        place = Replacing(heard.replaceable, milliseconds(self._config.settings.refresh_interval))
        try:
            published, held = self._publisher.repair(managed, store, heard.reply.clock, place), self._state.know.held
        except StoreError as exc:
            self._state.store_failed(managed, exc)
            return heard
        if published is not Published.STORED or held is None:
            return heard
        self._verifier.replaced(managed)
        self._repairs.replaced(held.meta.version, managed)
        return heard._replace(usable=True)

    def _repair(self, managed: ManagedStore, store: Store, reply: Reply) -> None:
        """Give the store what it lost, as old as it is. One that only takes over lost nothing."""
        had, stored = self._state.know.held, managed.held
        published, held = self._publisher.repair(managed, store, reply.clock), self._state.know.held
        if published is Published.STORED and held is not None and managed is self._state.stores.first:
            had_it = (
                had is None or (had.accepted and had.store_name == managed.store_name) or stored == had.meta.version
            )
            behind, known = reply.meta is not None and not had_it, had_it or bool(stored)
            self._repairs.made(held.meta.version, managed, store, behind=behind, known=known)

    def renew(self) -> None:
        """Keep the lease of the store in charge, if this process has it."""
        managed = self._state.stores.in_charge
        found = self._state.stores.named(managed.store_name)
        if found is None:
            return self._state.forget_leadership(managed)
        view = self._state.know.view(managed.store_name)
        cold = view.stored is None and self._state.know.held is None
        lease = min(self._config.lease, self._config.settings.cold_lease) if cold else self._config.lease
        try:
            kept = found[1].renew(self._state.me, milliseconds(lease))
        except StoreError as exc:
            return self._state.store_failed(managed, exc)
        self._state.stores.answered(managed, wrote=kept)
        return self._state.lease_extended(managed, lease) if kept else self._state.forget_leadership(managed)

    def subscribe(self) -> Subscription | None:
        """Listen to the fleet's store; None if it is in trouble or has no notices.

        Raises:
            StoreError: it refuses, which is no trouble yet: polls alone show whether a store answers.
        """
        stores = self._state.stores
        found = stores.named(stores.first.store_name) if stores.first_answers else None
        if found is None or not isinstance(found[1], Subscribable):
            return None
        return found[1].subscribe()

    def leave(self, *, idle: bool) -> None:
        """Give up the leases and close what is open. A later call opens it again."""
        self.stand_down(idle=idle)
        self._state.stores.close()

    def stand_down(self, *, idle: bool) -> None:
        """Give up the leases."""
        for store_name in self._state.stores.store_names:
            view = self._state.know.view(store_name)
            if (view.leads or view.deputy) and (found := self._state.stores.named(store_name)):
                self._release(*found, idle=idle)

    def _release(self, managed: ManagedStore, store: Store, *, idle: bool) -> None:
        try:
            store.release(self._state.me, idle=idle)
        except StoreError as exc:
            self._state.store_failed(managed, exc)
        else:
            self._state.stores.answered(managed)
        self._state.forget_leadership(managed)
