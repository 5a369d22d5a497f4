"""The read path: one poll, from the question to the adoption of the reply, top to bottom.

`StorePoller.poll` builds the poll, sends it, has the reply verified (`worker/verify.py`), applies it to what this
process knows (`core/knowledge.py`), and acts: it adopts newer definitions, repairs the store (`worker/publish.py`), or
releases a lease that it cannot use.

Invariant: it uses nothing that `ReplyVerifier` has not verified, and nothing that another project wrote.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from flagcache.core import first_load, knowledge
from flagcache.core.knowledge import StoreView
from flagcache.core.publication import kind_of_repair
from flagcache.core.renewals import must_leave, seconds_to_renew, with_last_renewal
from flagcache.core.reply import Action, must_release, next_action, yield_turn
from flagcache.errors import StoreError
from flagcache.events import Event, ForeignProject, ForeignProjectGone
from flagcache.runtime.callers import within
from flagcache.settings import milliseconds
from flagcache.stores.abilities import Subscribable, Subscription
from flagcache.stores.base import Ask, Meta, Published, Replacing, Reply, Store
from flagcache.vendor import Definitions
from flagcache.worker import troubles
from flagcache.worker.compatibility import KeyCompatibility
from flagcache.worker.config import CacheConfig
from flagcache.worker.grants import PollOutcome
from flagcache.worker.lease_doubts import LeaseDoubts
from flagcache.worker.managed_store import ManagedStore
from flagcache.worker.publish import Publisher
from flagcache.worker.repairs import Repairs
from flagcache.worker.state import ProcessState
from flagcache.worker.trust import Trust
from flagcache.worker.verify import ReplyVerifier, VerifiedReply

__all__ = ["PollIntent", "StorePoller"]


class PollIntent(NamedTuple):
    """What a process wants from a store, and what it does, at the moment of a poll (`flagcache.stores.base.Ask`)."""

    may_lead: bool
    idle: bool
    reports: bool = False
    listens: bool = False
    watches: bool = False
    starts: bool = False


class StorePoller:
    """Polls the stores of one process.

    Args:
        config: what all processes of the cache have in common.
        state: what this process knows.
        publisher: writes to them.
        trust: which of their times and notes it believes.
    """

    def __init__(self, config: CacheConfig, state: ProcessState, publisher: Publisher, trust: Trust) -> None:
        self._config = config
        self._reads_only = config.settings.reads_only
        self._state = state
        self._publisher = publisher
        self._verifier = ReplyVerifier(config, state, trust)
        self._compatibility = KeyCompatibility(config, state)
        self._repairs = Repairs(config, state)
        self._lease_doubts = LeaseDoubts(config.settings.fetch_total_timeout)
        self._common_for = config.lease
        """The lease, in seconds, for which `_common` was built."""
        self._common = self._template(self._common_for)
        """What all polls of this process have in common."""

    def poll(self, intent: PollIntent, lease: float, *, serve_first: bool = False) -> PollOutcome | None:
        """Poll the first store that answers and has no other project's definitions; None if there is none.

        Args:
            intent: what this process wants and does at this moment.
            lease: seconds that a lease of this process lasts now.
            serve_first: only for unknown clients. Defer a grant that comes with young definitions to the next poll,
                which gets it again. So a client without flags starts with these, not with a request that may fail.
        """
        held = self._state.know.held
        if held is not None and held.unsettled is not None:
            self._state.settle_order()
        if lease != self._common_for:
            self._common, self._common_for = self._template(lease), lease
        for managed, store in self._state.stores.usable():
            try:
                verified, asked_at = self._ask(managed, store, intent)
            except StoreError as exc:
                self._state.store_failed(managed, exc)
                continue
            verified, deferred = self._adjust(managed, store, verified, serve_first=serve_first)
            reply = verified.reply
            ours = self._apply(managed, reply, asked_at) and verified.usable
            if ours:
                self._act(managed, store, verified, asked_at)
            must_not_lead = reply.leads and self._compatibility.must_not_lead(managed.store_name)
            if reply.leads and must_release(reply, ours=ours, must_not_lead=must_not_lead):
                # The poll took the lease before this process could read the reply. Another worker can use it.
                self._release(managed, store, idle=ours and intent.idle)
                reply = reply._replace(grant=None)
            if ours:
                return PollOutcome(managed.store_name, reply.grant, reply.clock, asked_at, deferred)
        return None

    def _ask(self, managed: ManagedStore, store: Store, intent: PollIntent) -> tuple[VerifiedReply, float]:
        """Poll one store and verify its reply; once more if the payload was not sent but is needed.

        Returns:
            The reply, and own clock before the poll, from which the ages in it count.
        """
        reply, asked_at = self._timely(managed, store, intent)
        self._state.stores.answered(managed, wrote=reply.grant is not None)
        verified = self._verifier.verify(managed, store, reply)
        if verified.again:
            reply, asked_at = self._timely(managed, store, intent)  # the same grant comes again
            verified = self._verifier.verify(managed, store, reply)
        return verified, asked_at

    def _adjust(
        self, managed: ManagedStore, store: Store, verified: VerifiedReply, *, serve_first: bool
    ) -> tuple[VerifiedReply, bool]:
        """Return the reply in terms of what this process holds and can read; and whether a grant was deferred."""
        if verified.replaceable:
            verified = self._replace(managed, store, verified)
        reply, deferred = self._compatibility.on_reply(managed.store_name, verified.reply), False
        if serve_first and verified.definitions is not None:
            reply, deferred = first_load.defer_grant(reply, self._config.settings)
        return (verified if reply is verified.reply else verified._replace(reply=reply)), deferred

    def _timely(self, managed: ManagedStore, store: Store, intent: PollIntent) -> tuple[Reply, float]:
        """Poll one store; a second time if the first took too long.

        A call longer than `store_timeout` means that this process was suspended, so the reply may be arbitrarily old.
        Poll again; an open grant is re-issued. A reader gets no grants, and over a slow link its payload may simply
        take that long.
        """
        settings, asked_at = self._config.settings, self._config.clock()
        reply = store.poll(self._build_poll(managed, intent, asked_at))
        if self._config.clock() - asked_at <= settings.store_timeout:
            return reply, asked_at
        if settings.reads_only and reply.payload is not None:
            return reply, asked_at
        asked_at = self._config.clock()
        with within(settings.store_timeout, anew=True):
            return store.poll(self._build_poll(managed, intent, asked_at)), asked_at

    def _build_poll(self, managed: ManagedStore, intent: PollIntent, now: float) -> Ask:
        """Build the poll of this store from the settings, what is known and what this process wants."""
        know, name = self._state.know, managed.store_name
        ask = self._common._replace(**intent._asdict())
        if managed.spec.pace != 1:
            ask = ask._replace(interval=round(ask.interval * managed.spec.pace))
        ask = knowledge.build_poll(ask, know, name, now)
        if know.held is None:  # a process with definitions restores a store that lost them
            ask = self._lease_doubts.adjust_poll(ask, know, name, now)
        elif self._state.holds_unshareable:
            ask = yield_turn(ask, know.view(name), unshareable=True)
        return self._verifier.adjust_poll(self._compatibility.adjust_poll(ask, name), name)

    def _template(self, lease: float) -> Ask:
        common = knowledge.template(self._state.me, self._config.settings, lease)
        return common._replace(max_payload=self._config.codec.largest)

    def _apply(self, managed: ManagedStore, reply: Reply, asked_at: float) -> bool:
        """Apply who leads and what is stored; return False if the definitions are another project's."""
        name, held = managed.store_name, self._state.know.held
        if reply.unchanged and held is not None:
            managed.held = held.meta.version
        elif reply.meta is not None and not reply.republish:
            managed.held = reply.meta.version
        with self._state.lock:
            before = self._state.know.view(name)
            know = knowledge.apply_reply(self._state.know, name, reply, self._config.clock(), asked_at)
            self._state.know = know = with_last_renewal(know, name, before) if reply.leads else know
            view = know.views[name]
            event = self._look_at_project(name, view) if view.foreign or self._state.troubles.active else None
        if reply.leads != before.leads:
            self._state.report_leadership(name, leads=reply.leads)
        if event is not None:
            self._state.emit(event)
        return not view.foreign

    def _look_at_project(self, store_name: str, view: StoreView) -> Event | None:
        """Return the event for a foreign project, or for its end."""
        namespace, known = self._config.namespace, self._state.troubles
        if not view.foreign or view.stored is None:
            return known.end(troubles.FOREIGN_PROJECT, partial(ForeignProjectGone, namespace), store=store_name)
        made = partial(ForeignProject, namespace, store_name, self._state.know.project, view.stored.project)
        empty = self._state.know.held is None or self._state.emptied
        event = partial(made, empty=empty, fetches=not self._config.settings.reads_only)
        return known.begin(troubles.FOREIGN_PROJECT, "foreign_project", event, store_name)

    def _act(self, managed: ManagedStore, store: Store, verified: VerifiedReply, asked_at: float) -> None:
        """Adopt what the store sent, or repair the store. If that fails, the grant in the reply still counts."""
        reply, definitions = verified.reply, verified.definitions
        action = next_action(reply, brought=definitions is not None, reads_only=self._reads_only)
        if action is Action.ADOPT and reply.meta is not None and definitions is not None:
            if self._compatibility.accepts(managed.store_name, reply.meta, definitions):
                self._adopt(managed.store_name, reply, reply.meta, definitions, asked_at)
            return
        try:
            if action is Action.REPAIR:
                self._repair(managed, store, reply)
            elif action is Action.RENEW_PROTECTION:
                self._renew_protection(managed, store, reply.clock)
        except StoreError as exc:
            self._state.store_failed(managed, exc)

    def _adopt(self, name: str, reply: Reply, meta: Meta, definitions: Definitions, asked_at: float) -> None:
        """Adopt what a verified reply brought, unless what is held is newer."""
        held = knowledge.from_store(name, meta, definitions, reply.clock, asked_at, signs=self._state.know.signs)
        self._state.adopt(held, fetched=False)
        if self._state.know.held is not held:
            self._verifier.trust.note_not_adopted(name, meta.version)
        elif reply.payload is not None:
            self._state.encoded.received(meta.version, reply.payload)

    def _renew_protection(self, managed: ManagedStore, store: Store, clock: int) -> None:
        """Publish what is held with the first key if the store has it with a key that is being replaced."""
        held = self._state.know.held
        if held is not None and self._verifier.pop_outdated(managed.store_name, held.meta.version):
            self._publisher.repair(managed, store, clock)

    def _replace(self, managed: ManagedStore, store: Store, verified: VerifiedReply) -> VerifiedReply:
        """Replace definitions whose key this process lacks by those that it holds."""
        place = Replacing(verified.replaceable, milliseconds(self._config.settings.refresh_interval))
        try:
            published = self._publisher.repair(managed, store, verified.reply.clock, place)
        except StoreError as exc:
            self._state.store_failed(managed, exc)
            return verified
        held = self._state.know.held
        if published is not Published.STORED or held is None:
            return verified
        self._verifier.replaced(managed)
        self._repairs.replaced(held.meta.version, managed)
        return verified._replace(usable=True)

    def _repair(self, managed: ManagedStore, store: Store, reply: Reply) -> None:
        """Publish what is held, with its own age. Only a repair of the fleet's store is reported."""
        had, newest = self._state.know.held, managed.held
        published, held = self._publisher.repair(managed, store, reply.clock), self._state.know.held
        if published is Published.STORED and held is not None and managed is self._state.stores.first:
            kind = kind_of_repair(had, managed.store_name, newest, empty=reply.meta is None)
            self._repairs.made(held.meta.version, managed, store, behind=kind.behind, known=kind.known)

    def renew(self) -> None:
        """Renew the lease of the store in charge, if this process has it."""
        managed = self._state.stores.in_charge
        found = self._state.stores.named(managed.store_name)
        if found is None:
            return self._state.lease_lost(managed)
        lease = seconds_to_renew(self._state.know, managed.store_name, self._config.settings, self._config.lease)
        try:
            kept = found[1].renew(self._state.me, milliseconds(lease))
        except StoreError as exc:
            return self._state.store_failed(managed, exc)
        self._state.stores.answered(managed, wrote=kept)
        return self._state.lease_extended(managed, lease) if kept else self._state.lease_lost(managed)

    def subscribe(self) -> Subscription | None:
        """Subscribe to the fleet's store; None if it failed or has no notices.

        Raises:
            StoreError: it refuses. That alone doesn't open its circuit breaker: only polls show whether it answers.
        """
        stores = self._state.stores
        found = stores.named(stores.first.store_name) if stores.first_answers else None
        if found is None or not isinstance(found[1], Subscribable):
            return None
        return found[1].subscribe()

    def leave(self, *, idle: bool) -> None:
        """Release the leases and close the stores. A later call opens them again."""
        self.stand_down(idle=idle)
        self._state.stores.close()

    def stand_down(self, *, idle: bool) -> None:
        """Release the leases."""
        for store_name in self._state.stores.store_names:
            view = self._state.know.view(store_name)
            if must_leave(view) and (found := self._state.stores.named(store_name)):
                self._release(*found, idle=idle)

    def _release(self, managed: ManagedStore, store: Store, *, idle: bool) -> None:
        try:
            store.release(self._state.me, idle=idle)
        except StoreError as exc:
            self._state.store_failed(managed, exc)
        else:
            self._state.stores.answered(managed)
        self._state.lease_lost(managed)
