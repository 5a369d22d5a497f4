"""The last known good definitions in the fallback file: saved while the fleet's store answers, loaded if none does.

The fallback file is a store like any other and replaces the fleet's store while that is down. So each process makes
sure that the file has what it holds: its first definitions at once, later ones after the clients have them. One process
of a machine writes a version, as the bytes that the fleet's store has. The others find the version in the file. If the
file already has it, only its times are renewed.

Invariant: a poll of the fleet's store waits at most one `store_timeout` for the disk, and never fails because of it.
"""

from __future__ import annotations

import math
import random

from flagcache.core import knowledge
from flagcache.core.knowledge import Held
from flagcache.core.last_known_good import Copy, Key, Saved, delay, is_saved, next_write, saves_at_once
from flagcache.errors import EnvelopeError, StoreError, UnknownKeyError
from flagcache.runtime.callers import within
from flagcache.stores.base import Grant, Meta, Published, Reply, Store
from flagcache.worker.config import CacheConfig
from flagcache.worker.managed_store import ManagedStore
from flagcache.worker.publish import Publisher
from flagcache.worker.state import ProcessState
from flagcache.worker.trust import Trust
from flagcache.worker.verify import ReplyVerifier

__all__ = ["LastKnownGood"]


class LastKnownGood:
    """Saves to and loads from the fallback file; does nothing if there is none.

    Args:
        config: what all processes of the cache have in common.
        state: what this process knows.
        publisher: writes to the file.
        trust: which of its times and notes this process believes.
    """

    def __init__(self, config: CacheConfig, state: ProcessState, publisher: Publisher, trust: Trust) -> None:
        self._config = config
        self._state = state
        self._publisher = publisher
        self._verifier = ReplyVerifier(config, state, trust)
        self._saved = Saved()
        self.due_at = math.inf
        """When to save what is held, on this process's own clock."""

    def offer_soon(self, *, later: bool) -> None:
        """Save what is held if that may be new; a little later if older definitions are saved already.

        Args:
            later: a thread runs that saves what is due.
        """
        held = self._state.know.held
        if held is None:
            return
        if saves_at_once(self._saved, later=later) or self._is_saved(held):
            self.save()
        elif self.due_at == math.inf:
            self.due_at = self._config.clock() + delay(random.random())

    def save_due(self) -> None:
        """Save now what is due."""
        if self.due_at < math.inf:
            self.save()

    def save(self) -> None:
        """Make sure that the file has what is held. Poll the file only for another version, or much younger times.

        If that fails, it is due again: another process may have been writing at that moment.
        """
        self.due_at = math.inf
        held, store_name = self._state.know.held, self._state.stores.fallback
        if held is None or not store_name:
            return
        if held.store_name == store_name or self._is_saved(held):
            self._state.encoded.drop()
            return
        self._saved = self._saved._replace(tried=True)
        found = self._state.stores.named(store_name)
        if found is None or not self._offered(*found, held):
            again_at = self._config.clock() + delay(random.random())
            self.due_at = max(again_at, self._state.stores.askable_at(store_name))

    def _offered(self, managed: ManagedStore, store: Store, held: Held) -> bool:
        """Offer it to the file; return False if the file did not answer, so that the offer must be repeated."""
        try:
            with within(self._config.settings.store_timeout):
                asked_at = self._config.clock()
                born = self._offer(managed, store, held, self._poll(managed, store, asked_at), asked_at)
        except StoreError as exc:
            self._state.store_failed(managed, exc)
            return False
        self._state.stores.answered(managed)  # only now: a file that can be read may still refuse a write
        if born is not None:
            self._saved = self._saved._replace(version=held.meta.version, born=born)
            self._state.encoded.drop()
        return True

    def load(self) -> bool:
        """Adopt the definitions in the file if nothing is held yet. Return whether anything is held now."""
        store_name = self._state.stores.fallback
        found = self._state.stores.named(store_name) if store_name and self._state.know.held is None else None
        if found is not None:
            managed, store = found
            asked_at = self._config.clock()
            try:
                reply = self._poll(managed, store, asked_at)
                self._state.stores.answered(managed)
                verified = self._verifier.verify(managed, store, reply)
            except StoreError as exc:
                self._state.store_failed(managed, exc)
            else:
                meta = verified.reply.meta
                if meta is not None and verified.definitions is not None and not self._is_foreign(verified.reply):
                    held = knowledge.from_store(
                        managed.store_name,
                        meta,
                        verified.definitions,
                        verified.reply.clock,
                        asked_at,
                        signs=self._state.know.signs,
                    )
                    self._state.adopt(held, fetched=False)
        return self._state.know.held is not None

    def _poll(self, managed: ManagedStore, store: Store, asked_at: float) -> Reply:
        """Poll the file without contending for the lease."""
        base = knowledge.template(self._state.me, self._config.settings, self._config.lease)
        base = base._replace(max_payload=self._config.codec.largest)
        return store.poll(
            knowledge.build_poll(base, self._state.know, managed.store_name, asked_at)._replace(may_lead=False)
        )

    def _offer(self, managed: ManagedStore, store: Store, held: Held, reply: Reply, asked_at: float) -> float | None:
        """Write to the file what it needs.

        Returns:
            As `Write.born`; None also if another process was quicker.
        """
        if reply.unchanged or self._is_foreign(reply):
            return held.born
        meta = knowledge.meta_for_store(held, managed.store_name, reply.clock, asked_at)
        copy = None if reply.meta is None else self._copy(managed.store_name, reply.meta, held, reply.clock, asked_at)
        write = next_write(held, meta, copy, self._config.stale_after)
        wrote = write.meta is None or self._write(managed, store, held, write.meta, times_only=write.times_only)
        return write.born if wrote else None

    def _copy(self, store_name: str, stored: Meta, held: Held, clock: int, asked_at: float) -> Copy:
        """Return what the file has. Its age is by its stamp, if this process has the key with which that was made."""
        key, signs = self._key_of(stored), self._state.know.signs
        signs = signs and key is not Key.LACKING
        believed = self._config.codec.believed(stored) if signs else stored
        there = knowledge.from_store(store_name, believed, held.definitions, clock, asked_at, signs=signs)
        return Copy(stored, there.born, key)

    def _write(self, managed: ManagedStore, store: Store, held: Held, meta: Meta, *, times_only: bool) -> bool:
        """Write it with these metadata, or only their times; False if another process was quicker."""
        if times_only:
            times = Grant(meta.epoch, meta.as_of, meta.confirmed_at)
            return self._publisher.confirm_stored(managed, store, meta.version, times)
        if self._publisher.put(managed, store, held, meta, fresh=False) is not Published.STALE:
            return True
        found = store.inspect()  # perhaps nothing is stored, under a higher epoch
        if found.meta is not None or found.epoch <= meta.epoch:
            return False
        meta = meta._replace(epoch=found.epoch)
        return self._publisher.put(managed, store, held, meta, fresh=False) is not Published.STALE

    def _key_of(self, stored: Meta) -> Key:
        """Return which key protects what the file has."""
        try:
            self._config.codec.read_meta(stored)
        except UnknownKeyError:
            return Key.LACKING
        except EnvelopeError:
            return Key.OUTDATED
        return Key.CURRENT if self._config.codec.is_current(stored) else Key.OUTDATED

    def _is_saved(self, held: Held) -> bool:
        return is_saved(self._saved, held, self._config.stale_after)

    def _is_foreign(self, reply: Reply) -> bool:
        return knowledge.is_foreign(self._state.know, reply.meta)
