"""What one process knows of its fleet, and who is told when that changes.

What is known is one immutable value, swapped under the lock; stores are never asked under it. Must never hold
definitions that are older than those it replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from flagcache.core import knowledge as election
from flagcache.core.knowledge import Contact, Held, Knowledge
from flagcache.errors import EnvelopeError, StoreError
from flagcache.events import (
    DefinitionsChanged,
    DefinitionsFresh,
    DefinitionsStale,
    Event,
    LeadershipLost,
    PublicationRefused,
    QuotaLimited,
    QuotaRestored,
)
from flagcache.runtime import process
from flagcache.stores.base import Envelope, Meta
from flagcache.worker.config import Plan
from flagcache.worker.failover import Tier, Tiers

__all__ = ["Ledger"]

_QUOTA = 402
"""The HTTP status that says: quota used up."""


class _Trouble(NamedTuple):
    """What was told last."""

    quota: bool
    stale: bool


class Ledger:
    """One process's knowledge, and its stores.

    Args:
        plan: what all processes of the cache have in common.
        know: what this process knows from its parent.
    """

    def __init__(self, plan: Plan, know: Knowledge) -> None:
        self.me = plan.mark + process.identity()
        self.know = know
        self.tiers = Tiers(
            plan.stores,
            longest_pause=plan.polls_every * 0.8,
            clock=plan.clock,
            events=plan.events,
            namespace=plan.namespace,
        )
        self._plan = plan
        self._told = _Trouble(quota=False, stale=False)
        self._unshareable = ""
        """The version that was last found to be such."""
        self.lock = threading.RLock()  # reentrant: a signal handler may shut down the client that it interrupted

    def learn(self, change: Callable[[Knowledge], Knowledge]) -> None:
        """Swap what is known for what follows from it."""
        with self.lock:
            self.know = change(self.know)

    def take(self, held: Held, *, fetched: bool) -> None:
        """Hold these definitions, unless newer ones came in meanwhile."""
        with self.lock:
            before = self.know.held
            self.know = election.hold(self.know, held)
            taken = self.know.held is held
        if not taken or (before is not None and before.meta.version == held.meta.version):
            return
        previous = before.meta.version if before else ""
        old = before.definitions if before else self._plan.vendor.empty()
        difference = self._plan.vendor.difference(old, held.definitions)
        self.emit(DefinitionsChanged(self._plan.namespace, held.meta.version, previous, fetched, difference))

    def look(self) -> None:
        """Say so when what is held has become stale or fresh again, the quota used up or restored, the lease over.

        Polls and the listener look at the same time: who swaps what was told last is the one that tells.
        """
        now, held, namespace = self._plan.clock(), self.know.held, self._plan.namespace
        if self.contact.leads and now >= self.contact.lease_ends:
            self.forget_leadership(self.tiers.first)
        age = now - held.born if held else 0.0
        with self.lock:
            new = _Trouble(quota=self.know.note_status == _QUOTA, stale=age > self._plan.settings.stale_after)
            old, self._told = self._told, new
        if new.quota != old.quota:
            cleared = self._plan.settings.on_quota_limited == "clear"
            self.emit(QuotaLimited(namespace, cleared) if new.quota else QuotaRestored(namespace))
        if new.stale != old.stale:
            self.emit(DefinitionsStale(namespace, age) if new.stale else DefinitionsFresh(namespace))

    def envelope(self, held: Held, meta: Meta) -> Envelope | None:
        """What is to be published of what is held; None, said once, if every reader would refuse it."""
        if meta.version == self._unshareable:
            return None
        try:
            return self._plan.codec.write(held.definitions, meta)
        except EnvelopeError as exc:
            with self.lock:
                told, self._unshareable = self._unshareable == meta.version, meta.version
            if not told:
                self.emit(PublicationRefused(self._plan.namespace, meta.version, str(exc)))
            return None

    @property
    def emptied(self) -> bool:
        """Whether clients are to be handed no flags, because the quota is used up."""
        return self.know.note_status == _QUOTA and self._plan.settings.on_quota_limited == "clear"

    @property
    def shared(self) -> bool:
        """Whether the fleet's own store, which answers, has what is held, as far as this process knows."""
        held = self.know.held
        if held is None or not held.accepted or self.alone_with_it:
            return False
        return held.home == self.tiers.first.home and self.tiers.first_answers and not self.contact.foreign

    @property
    def alone_with_it(self) -> bool:
        """Whether what is held cannot be shared: each process has to fetch it for itself."""
        held = self.know.held
        return held is not None and held.meta.version == self._unshareable

    @property
    def contact(self) -> Contact:
        """What is known of the fleet's store."""
        return self.know.contact(self.tiers.first.home)

    def lost(self, tier: Tier, reason: StoreError) -> None:
        """A store did not answer: it is left alone for a while, and its lease is not counted on."""
        self.tiers.lost(tier, reason)
        self.forget_leadership(tier)

    def extended(self, tier: Tier, lease: float) -> None:
        """The lease of this store, if this process has it, was kept for so many seconds from now."""
        now = self._plan.clock()
        with self.lock:
            contact = self.know.contact(tier.home)
            if contact.leads:
                kept = contact._replace(renewed=now, lease_ends=now + lease)
                self.know = self.know.with_contact(tier.home, kept)

    def gave_up(self, tier: Tier) -> None:
        """This process has just given up the lease of this store, if it had it: nobody holds it now."""
        with self.lock:
            contact = self.know.contact(tier.home)
            if contact.leads:
                self.know = self.know.with_contact(tier.home, contact._replace(lease_ends=self._plan.clock()))
        self.forget_leadership(tier)

    def forget_leadership(self, tier: Tier) -> None:
        """This process no longer holds the lease of this store."""
        with self.lock:
            contact = self.know.contact(tier.home)
            self.know = self.know.with_contact(tier.home, contact._replace(leads=False))
        if contact.leads:
            self.emit(LeadershipLost(self._plan.namespace, tier.home))

    def emit(self, event: Event) -> None:
        """Tell all who subscribed."""
        self._plan.events.emit(event)
