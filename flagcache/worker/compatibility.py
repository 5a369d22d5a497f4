"""Applies the rules for old and new SDKs in one fleet (`flagcache.core.compatibility`) to one process's stores."""

from __future__ import annotations

from functools import partial

from flagcache.core import compatibility as rules
from flagcache.sharing_failures import KeysMissing, KeysRestored
from flagcache.stores.base import Ask, Meta, Reply
from flagcache.vendor import Definitions
from flagcache.worker import troubles
from flagcache.worker.config import CacheConfig
from flagcache.worker.state import ProcessState

__all__ = ["KeyCompatibility", "KeysMissing", "KeysRestored"]


class KeyCompatibility:
    """Applies the rules for one process.

    Args:
        config: what all processes of the cache have in common.
        state: what this process knows.
    """

    def __init__(self, config: CacheConfig, state: ProcessState) -> None:
        self._config = config
        self._state = state
        self._lacking: dict[str, rules.Lacking] = {}
        self._free_since: dict[str, float] = {}
        """By store: own clock since when the lease was free, or taken by this process while it was free."""

    def must_not_lead(self, store_name: str) -> bool:
        """Whether to leave this store's lease to processes whose SDK knows all keys of what is held (rule 1)."""
        vendor = self._config.vendor
        if not rules.drops_keys(self._state.know.held, vendor.writer, vendor.keys):
            return False
        if rules.is_emptied(self._state.know.view(store_name)) or self._config.clients.can_fetch:
            return False
        since = self._free_since.get(store_name)
        return since is None or self._config.clock() - since < self._config.settings.challenge_after

    def adjust_poll(self, ask: Ask, store_name: str) -> Ask:
        """Return the poll of this store, adjusted to these rules."""
        if ask.may_lead and self.must_not_lead(store_name):
            ask = ask._replace(may_lead=False)
        held, lacking = self._state.know.held, self._lacking.get(store_name)
        if held is None:
            return ask
        mended = held.accepted and held.store_name == store_name
        if mended and (lacking is None or held.meta.order > lacking.meta.order):
            self._lacking.pop(store_name, None)
            if self._state.troubles.active:
                self._report_restored(store_name)
            return ask
        return ask if lacking is None else rules.ask_for_turn(ask, self._state.know.view(store_name), lacking)

    def on_reply(self, store_name: str, reply: Reply) -> Reply:
        """Record who leads and what is stored; return the reply in terms of what this process really holds."""
        if reply.lease_left == 0:
            self._free_since.setdefault(store_name, self._config.clock())
        elif not reply.leads:
            self._free_since.pop(store_name, None)
        lacking = self._lacking.get(store_name)
        if lacking is None:
            return reply
        reply = rules.as_held(reply, lacking)
        left = rules.still_lacking(reply, lacking)
        if left is None:
            del self._lacking[store_name]
        else:
            self._lacking[store_name] = left
        return reply

    def accepts(self, store_name: str, meta: Meta, definitions: Definitions) -> bool:
        """Whether to replace what is held by what was sent (rules 2 and 3)."""
        vendor = self._config.vendor
        missing = rules.missing_keys(meta, definitions, vendor.writer, vendor.keys)
        if not missing:
            self._report_restored(store_name)
            return True
        kept = rules.keeps_held(self._state.know.held, meta, missing)
        event = partial(KeysMissing, self._config.namespace, store_name, meta.writer, missing, kept)
        self._state.emit(self._state.troubles.begin(troubles.KEYS_MISSING, "keys_missing", event, store_name))
        self._lacking[store_name] = rules.Lacking(meta, kept)
        return not kept

    def _report_restored(self, store_name: str) -> None:
        made = partial(KeysRestored, self._config.namespace)
        self._state.emit(self._state.troubles.end(troubles.KEYS_MISSING, made, store=store_name))
