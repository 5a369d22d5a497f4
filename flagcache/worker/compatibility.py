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
from flagcache.worker.config import CacheConfig
from flagcache.worker.state import ProcessState

__all__ = ["KeyCompatibility", "KeysMissing", "KeysRestored"]


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


class KeyCompatibility:
    """Applies the rules for one process.

    Args:
        config: what all processes of the cache have in common.
        state: what this process knows.
    """

    def __init__(self, config: CacheConfig, state: ProcessState) -> None:
        self._config = config
        self._state = state
        self._lacking: dict[str, _Lacking] = {}
        self._free_since: dict[str, float] = {}
        """Own clock since when each store's lease was free, or taken by this process when it was."""

    def must_not_lead(self, store_name: str) -> bool:
        """Whether to leave the lead of this store to others, who lose nothing of what is held (rule 1)."""
        held = self._state.know.held
        if held is None or not self._is_foreign(held.meta) or self._config.vendor.keys.issuperset(held.definitions):
            return False
        view = self._state.know.view(store_name)
        emptied = bool(view.replied_at) and view.stored is None  # by people, else it will soon be filled again
        if emptied or self._config.clients.can_fetch:
            return False
        since = self._free_since.get(store_name)
        return since is None or self._config.clock() - since < self._config.settings.challenge_after

    def adjust_poll(self, ask: Ask, store_name: str) -> Ask:
        """The poll of this store, as these rules want it."""
        ask = ask._replace(may_lead=ask.may_lead and not self.must_not_lead(store_name))
        lacking, held = self._lacking.get(store_name), self._state.know.held
        if held is None:
            return ask
        mended = held.accepted and held.store_name == store_name
        if mended and (lacking is None or held.meta.order > lacking.meta.order):
            self._lacking.pop(store_name, None)
            if self._state.troubles.known:
                self._tell_mended(store_name)
        if store_name not in self._lacking or lacking is None:
            return ask
        if lacking.kept:  # say that it is known, so that it is not sent again
            ask = ask._replace(held=lacking.meta.order, held_version=lacking.meta.version)
        view = self._state.know.view(store_name)
        if view.leads or view.last_grant > lacking.meta.as_of:
            return ask
        # With half an interval for each, more than three in one interval never get a turn so.
        return ask._replace(interval=ask.interval // 10, challenge=min(ask.challenge, ask.interval // 2))

    def on_reply(self, store_name: str, reply: Reply) -> Reply:
        """Take in who leads, and what is stored; the answer in terms of what this process really holds."""
        if reply.lease_left == 0:
            self._free_since.setdefault(store_name, self._config.clock())
        elif not reply.leads:
            self._free_since.pop(store_name, None)
        lacking = self._lacking.get(store_name)
        if lacking is None:
            return reply
        if reply.unchanged and lacking.kept:
            reply = reply._replace(unchanged=False, meta=lacking.meta)
        if reply.meta is not None and reply.meta.version == lacking.meta.version:
            self._lacking[store_name] = lacking._replace(meta=reply.meta)
        elif not reply.unchanged:
            del self._lacking[store_name]
        return reply

    def accepts(self, store_name: str, meta: Meta, definitions: Definitions) -> bool:
        """Whether to hold what was sent, instead of what is held (rules 2 and 3)."""
        missing = self._config.vendor.keys - definitions.keys()
        if not missing or not self._is_foreign(meta):
            self._tell_mended(store_name)
            return True
        held = self._state.know.held
        kept = held is not None and held.meta.epoch == meta.epoch and not missing.isdisjoint(held.definitions)
        told = partial(KeysMissing, self._config.namespace, store_name, meta.writer, tuple(sorted(missing)), kept)
        self._state.emit(self._state.troubles.lost(troubles.KEYS_MISSING, "keys_missing", told, store_name))
        self._lacking[store_name] = _Lacking(meta, kept)
        return not kept

    def _tell_mended(self, store_name: str) -> None:
        made = partial(KeysRestored, self._config.namespace)
        self._state.emit(self._state.troubles.found(troubles.KEYS_MISSING, made, store=store_name))

    def _is_foreign(self, meta: Meta) -> bool:
        """Whether another SDK wrote it: what the one here did not hand over is no loss to it."""
        return meta.writer != self._config.vendor.writer
