"""Old and new SDKs in one fleet: what a newer one wrote is not lost to an older one that knows fewer keys.

An SDK that fetches hands over the keys that it knows, and drops the others (`Vendor.keys`). Hence three rules for what
another SDK wrote:

1. Who would drop a key does not lead. Unless nobody else does: when the lease has been free for a challenge time, those
   who could carry the key have gone for good.
2. Who misses a key asks for a turn at once, once for each publication, and not only when the leader is silent.
3. Who holds a key keeps what it holds, older as it may be, until somebody brings a newer one with that key. Unless
   people cleared the store since.

The fleet's own fetch drops nothing, whichever SDK it serves: attached processes lead under the first rule too.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import NamedTuple

from flagcache.event import Event, Recovery, shown
from flagcache.stores.base import Ask, Meta, Reply
from flagcache.vendor import Definitions
from flagcache.worker import troubles
from flagcache.worker.config import Plan
from flagcache.worker.state import Ledger

__all__ = ["Generations", "KeysMissing", "KeysRestored"]


class KeysMissing(Event):
    """What an older SDK published lacks keys that the one here reads; a turn is asked for to bring them."""

    store: str
    writer: str
    keys: tuple[str, ...]
    kept: bool
    """True: clients go on with what they have. False: they use what there is, for this process has nothing better."""
    lasted: float = 0.0
    _level = logging.WARNING

    def __str__(self) -> str:
        told = f"definitions that {self.writer} wrote into {self.store} lack {', '.join(self.keys)}"
        then = "clients keep what they have" if self.kept else "clients use them all the same"
        return f"{told}; {then} until a newer SDK fetches"


class KeysRestored(Recovery):
    """What is published has the keys again that were missing."""

    store: str

    def __str__(self) -> str:
        return f"definitions in {self.store} have all keys again after {shown(self.lasted)}"


class _Lacking(NamedTuple):
    """What is stored lacks keys."""

    meta: Meta
    kept: bool


class Generations:
    """Applies the rules for one process.

    Args:
        plan: what all processes of the cache have in common.
        ledger: what this process knows.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self._lacking: dict[str, _Lacking] = {}
        self._free_since: dict[str, float] = {}
        """Own clock since when each store's lease was free, or taken by this process when it was."""

    def abstains(self, home: str) -> bool:
        """Whether to leave the lead of this store to others, who lose nothing of what is held (rule 1)."""
        held = self._ledger.know.held
        if held is None or not self._is_foreign(held.meta) or self._plan.vendor.keys.issuperset(held.definitions):
            return False
        contact = self._ledger.know.contact(home)
        emptied = bool(contact.heard) and contact.stored is None  # by people, else it will soon be filled again
        if emptied or self._plan.clients.fetcher() is not None:
            return False
        since = self._free_since.get(home)
        return since is None or self._plan.clock() - since < self._plan.settings.challenge_after

    def asks(self, ask: Ask, home: str) -> Ask:
        """The poll of this store, as these rules want it."""
        ask = ask._replace(may_lead=ask.may_lead and not self.abstains(home))
        lacking, held = self._lacking.get(home), self._ledger.know.held
        if held is None:
            return ask
        if held.accepted and held.home == home and (lacking is None or held.meta.order > lacking.meta.order):
            self._lacking.pop(home, None)  # this process has mended it
            self._tell_mended(home)
        if home not in self._lacking or lacking is None:
            return ask
        if lacking.kept:  # say that it is known, so that it is not sent again
            ask = ask._replace(held=lacking.meta.order, held_version=lacking.meta.version)
        contact = self._ledger.know.contact(home)
        if contact.leads or contact.last_grant > lacking.meta.as_of:
            return ask
        # With half an interval for each, more than three in one interval never get a turn so.
        return ask._replace(interval=ask.interval // 10, challenge=min(ask.challenge, ask.interval // 2))

    def hears(self, home: str, reply: Reply) -> Reply:
        """Take in who leads, and what is stored; the answer in terms of what this process really holds."""
        if reply.lease_left == 0:
            self._free_since.setdefault(home, self._plan.clock())
        elif not reply.leads:
            self._free_since.pop(home, None)
        lacking = self._lacking.get(home)
        if lacking is None:
            return reply
        if reply.unchanged and lacking.kept:
            reply = reply._replace(unchanged=False, meta=lacking.meta)
        if reply.meta is not None and reply.meta.version == lacking.meta.version:
            self._lacking[home] = lacking._replace(meta=reply.meta)
        elif not reply.unchanged:
            del self._lacking[home]
        return reply

    def takes(self, home: str, meta: Meta, definitions: Definitions) -> bool:
        """Whether to hold what was sent, instead of what is held (rules 2 and 3)."""
        missing = self._plan.vendor.keys - definitions.keys()
        if not missing or not self._is_foreign(meta):
            self._tell_mended(home)
            return True
        held = self._ledger.know.held
        kept = held is not None and held.meta.epoch == meta.epoch and not missing.isdisjoint(held.definitions)
        told = partial(KeysMissing, self._plan.namespace, home, meta.writer, tuple(sorted(missing)), kept)
        self._ledger.emit(self._ledger.troubles.lost(troubles.KEYS_MISSING, "keys_missing", told, home))
        self._lacking[home] = _Lacking(meta, kept)
        return not kept

    def _tell_mended(self, home: str) -> None:
        made = partial(KeysRestored, self._plan.namespace)
        self._ledger.emit(self._ledger.troubles.found(troubles.KEYS_MISSING, made, store=home))

    def _is_foreign(self, meta: Meta) -> bool:
        """Whether another SDK wrote it: what the one here did not hand over is no loss to it."""
        return meta.writer != self._plan.vendor.writer
