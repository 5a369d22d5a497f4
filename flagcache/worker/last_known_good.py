"""The last known good definitions on this machine's disk: kept there while the fleet's store answers, used when not.

The archive is a store like any other, and takes the fleet's place while that is away. So that it has something to give
then, each process that holds something newer sees to it that this is there: the first at once, what replaces it after
the clients have it. One process of a machine writes a content, as the bytes that the fleet's store has; the others find
its version there. Of a content that is there only the times are renewed. Must never make a poll of the fleet's store
wait for the disk beyond one store timeout, nor fail because of it.
"""

from __future__ import annotations

import math
import random

from flagcache.core import knowledge as election
from flagcache.core.knowledge import Held
from flagcache.errors import EnvelopeError, StoreError
from flagcache.runtime.callers import within
from flagcache.settings import milliseconds
from flagcache.stores.base import Grant, Meta, Reply, Store
from flagcache.worker.config import Plan
from flagcache.worker.failover import Tier
from flagcache.worker.state import Ledger
from flagcache.worker.verify import Reader

__all__ = ["Archive"]

_AFTER = 1.0
"""Seconds after which definitions that replace others are kept, and over which the processes of a machine spread that:
the first of them writes, and the others find it done."""


class Archive:
    """Keeps and reads the archive of one process; does nothing where there is none.

    Args:
        plan: what all processes of the cache have in common.
        ledger: what this process knows.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self._reader = Reader(plan, ledger)
        self._tried = False
        """Whether this process has tried to keep anything yet."""
        self._version, self._born = "", -math.inf
        """Of what is kept there, as far as this process knows. Not the definitions: these may have been replaced."""
        self.due_at = math.inf
        """When what is held is to be kept, on this process's own clock."""

    def arrived(self, *, later: bool) -> None:
        """Something may have come. Keep it, or let it be due a little later, if an older one is kept.

        Args:
            later: whether somebody looks what is due.
        """
        held = self._ledger.know.held
        if held is None:
            return
        if not later or not self._tried or self._is_kept(held):
            self.keep()
        elif self.due_at == math.inf:
            self.due_at = self._plan.clock() + random.uniform(_AFTER, 2 * _AFTER)

    def settle(self) -> None:
        """Keep now what is due."""
        if self.due_at < math.inf:
            self.keep()

    def keep(self) -> None:
        """See to it that what is held is in the archive; asks it only for another version, or much younger ages.

        What could not be kept is due again: another process may only have been writing.
        """
        self.due_at = math.inf
        held, home = self._ledger.know.held, self._ledger.tiers.archive
        if held is None or not home:
            return
        if held.home == home or self._is_kept(held):
            self._ledger.encoded.drop()
            return
        self._tried = True
        found = self._ledger.tiers.named(home)
        if found is None or not self._offered(*found, held):
            pause = random.uniform(_AFTER, 2 * _AFTER)
            self.due_at = max(self._plan.clock() + pause, self._ledger.tiers.askable_at(home))

    def _offered(self, tier: Tier, store: Store, held: Held) -> bool:
        """Offer it; False if the archive did not answer, and so is to be asked again."""
        try:
            with within(self._plan.settings.store_timeout):
                asked = self._plan.clock()
                kept = self._offer(tier, store, held, self._ask(tier, store, asked), asked)
        except StoreError as exc:
            self._ledger.lost(tier, exc)
            return False
        self._ledger.tiers.answered(tier)  # only now: a file may be read and yet refuse to be written
        if kept:
            self._version, self._born = held.meta.version, held.born
            self._ledger.encoded.drop()
        return True

    def recall(self) -> bool:
        """Hold what is in the archive, if nothing is held yet; whether anything is held now."""
        home = self._ledger.tiers.archive
        found = self._ledger.tiers.named(home) if home and self._ledger.know.held is None else None
        if found is not None:
            tier, store = found
            asked = self._plan.clock()
            try:
                reply = self._ask(tier, store, asked)
                self._ledger.tiers.answered(tier)
                heard = self._reader.read(tier, store, reply)
            except StoreError as exc:
                self._ledger.lost(tier, exc)
            else:
                meta = heard.reply.meta
                if meta is not None and heard.definitions is not None and not self._is_foreign(heard.reply):
                    held = election.told(tier.home, meta, heard.definitions, heard.reply.clock, asked)
                    self._ledger.take(held, fetched=False)
        return self._ledger.know.held is not None

    def _ask(self, tier: Tier, store: Store, asked: float) -> Reply:
        """Ask for what is there, contending for nothing."""
        base = election.template(self._ledger.me, self._plan.settings, self._plan.lease)
        return store.poll(election.ask_for(base, self._ledger.know, tier.home, asked)._replace(may_lead=False))

    def _offer(self, tier: Tier, store: Store, held: Held, reply: Reply, asked: float) -> bool:
        """Put it there if what is there is older; whether it is there now, or another project's is."""
        meta, lease = election.repair(held, tier.home, reply.clock, asked), milliseconds(self._plan.lease)
        if reply.unchanged or self._is_foreign(reply):
            return True
        stored = reply.meta
        if stored is not None and stored.version == meta.version:
            behind = (meta.as_of - stored.as_of) / 1000
            named = stored.project == meta.project or behind <= 0
            if self._version != meta.version and self._is_outdated(stored):
                store.discard(self._ledger.me, meta.version)
                stored = None
            elif stored.epoch == meta.epoch and named:
                times = Grant(meta.epoch, meta.as_of, meta.confirmed_at)
                fresh = behind < self._plan.stale_after
                return fresh or store.confirm(self._ledger.me, meta.version, times, lease=lease)
        if stored is not None and stored.order >= meta.order:
            return False  # its clock was stepped back, or others here know better: the next poll shows it
        envelope = self._ledger.envelope(held, meta)
        if envelope is not None:
            store.publish(self._ledger.me, envelope, fresh=False, lease=lease)
        return True

    def _is_outdated(self, stored: Meta) -> bool:
        """Whether what is there was protected with a key on its way out, so that it could not be read one day."""
        try:
            return not self._plan.codec.is_current(stored)
        except EnvelopeError:
            return True

    def _is_kept(self, held: Held) -> bool:
        return self._version == held.meta.version and held.born - self._born < self._plan.stale_after

    def _is_foreign(self, reply: Reply) -> bool:
        return election.is_foreign(self._ledger.know, reply.meta)
