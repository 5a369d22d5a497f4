"""The last known good definitions on this machine's disk: kept there while the fleet's store answers, used when not.

The archive is a store like any other, and takes the fleet's place while that is away. So that it has something to give
then, each process that holds something newer sees to it that this is there: the first at once, what replaces it after
the clients have it. Must never make a poll of the fleet's store wait for the disk more than one store timeout, nor fail
because of it.
"""

from __future__ import annotations

import math
import random

from flagcache.core import knowledge as election
from flagcache.core.knowledge import Held
from flagcache.errors import StoreError
from flagcache.settings import milliseconds
from flagcache.stores.base import Reply, Store
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
        self._kept: Held | None = None
        self.due_at = math.inf
        """When what is held is to be kept, on this process's own clock."""

    def arrived(self, *, later: bool) -> None:
        """Something may have come. Keep it, or let it be due a little later, if an older one is kept.

        Args:
            later: whether somebody looks what is due.
        """
        held = self._ledger.know.held
        if not later or self._kept is None:
            self.keep()
        elif held is not None and not self._is_kept(held) and self.due_at == math.inf:
            self.due_at = self._plan.clock() + random.uniform(_AFTER, 2 * _AFTER)

    def settle(self) -> None:
        """Keep now what is due."""
        if self.due_at < math.inf:
            self.keep()

    def keep(self) -> None:
        """See to it that what is held is in the archive; asks it only for another version, or much younger ages."""
        self.due_at = math.inf
        held = self._ledger.know.held
        if held is None or self._is_kept(held):
            return
        found = self._found() if held.home != self._ledger.tiers.archive else None
        if found is None:
            return
        tier, store = found
        try:
            asked = self._plan.clock()
            if self._offer(tier, store, held, self._ask(tier, store, asked), asked):
                self._kept = held
        except StoreError as exc:
            self._ledger.lost(tier, exc)

    def recall(self) -> bool:
        """Hold what is in the archive, if nothing is held yet; whether anything is held now."""
        found = self._found() if self._ledger.know.held is None else None
        if found is not None:
            tier, store = found
            asked = self._plan.clock()
            try:
                heard = self._reader.read(tier, store, self._ask(tier, store, asked))
            except StoreError as exc:
                self._ledger.lost(tier, exc)
            else:
                meta = heard.reply.meta
                if meta is not None and heard.definitions is not None and not self._is_foreign(heard.reply):
                    held = election.told(tier.home, meta, heard.definitions, heard.reply.clock, asked)
                    self._ledger.take(held, fetched=False)
        return self._ledger.know.held is not None

    def _found(self) -> tuple[Tier, Store] | None:
        home = self._ledger.tiers.archive
        return self._ledger.tiers.named(home) if home else None

    def _ask(self, tier: Tier, store: Store, asked: float) -> Reply:
        """Ask for what is there, contending for nothing."""
        base = election.template(self._ledger.me, self._plan.settings, self._plan.lease)
        reply = store.poll(election.ask_for(base, self._ledger.know, tier.home, asked)._replace(may_lead=False))
        self._ledger.tiers.answered(tier)
        return reply

    def _offer(self, tier: Tier, store: Store, held: Held, reply: Reply, asked: float) -> bool:
        """Put it there if what is there is older; whether it is there now, or another project's is."""
        meta = election.repair(held, tier.home, reply.clock, asked)
        if reply.unchanged or self._is_foreign(reply):
            return True
        stored = reply.meta
        if stored is not None and stored.version == meta.version:
            behind = (meta.as_of - stored.as_of) / 1000
            if stored.epoch == meta.epoch and behind < self._plan.settings.stale_after:
                return True
        if stored is not None and stored.order >= meta.order:
            return False  # its clock was stepped back, or others here know better: the next poll tells
        envelope = self._ledger.envelope(held, meta)
        if envelope is not None:
            store.publish(self._ledger.me, envelope, fresh=False, lease=milliseconds(self._plan.lease))
        return True

    def _is_kept(self, held: Held) -> bool:
        kept = self._kept
        if kept is None or kept.meta.version != held.meta.version:
            return False
        return held.born - kept.born < self._plan.settings.stale_after

    def _is_foreign(self, reply: Reply) -> bool:
        return election.is_foreign(self._ledger.know, reply.meta)
