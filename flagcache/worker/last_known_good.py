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
from enum import Enum, auto

from flagcache.core import ageing, knowledge
from flagcache.core.knowledge import Held
from flagcache.core.publication import Copy, renew_copy
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

_AFTER = 1.0
"""Seconds after which definitions that replace others are saved. The processes of a machine also spread over this time:
the first one writes, and the others find the version in the file."""


class _Key(Enum):
    """The key that protects stored definitions, as one process sees it."""

    CURRENT = auto()
    """The first key of this process."""
    OUTDATED = auto()
    """A key that is being replaced, so it will not be readable later; or the protection is broken."""
    LACKING = auto()
    """A key that this process lacks, of workers that are a step ahead or behind in a rotation. They renew the file
    themselves. If each process replaced what another one wrote, both would write without end."""


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
        self._tried = False
        """Whether this process has tried to save anything yet."""
        self._version, self._born = "", -math.inf
        """Version and age of the saved definitions, as far as this process knows. Not the definitions themselves, which
        would stay in memory."""
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
        if not later or not self._tried or self._is_kept(held):
            self.save()
        elif self.due_at == math.inf:
            self.due_at = self._config.clock() + random.uniform(_AFTER, 2 * _AFTER)

    def save_due(self) -> None:
        """Save now what is due."""
        if self.due_at < math.inf:
            self.save()

    def save(self) -> None:
        """Make sure that the file has what is held. Asks the file only for another version, or much younger times.

        If that fails, it is due again: another process may have been writing at that moment.
        """
        self.due_at = math.inf
        held, store_name = self._state.know.held, self._state.stores.fallback
        if held is None or not store_name:
            return
        if held.store_name == store_name or self._is_kept(held):
            self._state.encoded.drop()
            return
        self._tried = True
        found = self._state.stores.named(store_name)
        if found is None or not self._offered(*found, held):
            pause = random.uniform(_AFTER, 2 * _AFTER)
            self.due_at = max(self._config.clock() + pause, self._state.stores.askable_at(store_name))

    def _offered(self, managed: ManagedStore, store: Store, held: Held) -> bool:
        """Offer it to the file; return False if the file did not answer, so that it must be asked again."""
        try:
            with within(self._config.settings.store_timeout):
                asked_at = self._config.clock()
                born = self._offer(managed, store, held, self._ask(managed, store, asked_at), asked_at)
        except StoreError as exc:
            self._state.store_failed(managed, exc)
            return False
        self._state.stores.answered(managed)  # only now: a file may be read and yet refuse to be written
        if born is not None:
            self._version, self._born = held.meta.version, born
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
                reply = self._ask(managed, store, asked_at)
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

    def _ask(self, managed: ManagedStore, store: Store, asked_at: float) -> Reply:
        """Poll the file without contending for the lease."""
        base = knowledge.template(self._state.me, self._config.settings, self._config.lease)
        base = base._replace(max_payload=self._config.codec.largest)
        return store.poll(
            knowledge.build_poll(base, self._state.know, managed.store_name, asked_at)._replace(may_lead=False)
        )

    def _offer(self, managed: ManagedStore, store: Store, held: Held, reply: Reply, asked_at: float) -> float | None:
        """Write to the file if it has older definitions.

        The ages decide, as between any two stores. The file may have a higher epoch, if the fleet's store has lost its
        own, or a time in the future, if this machine's clock was ahead.

        Returns:
            `Held.born` of what the file has now, if it is this version or must not be replaced; None if it is younger.
        """
        if reply.unchanged or self._is_foreign(reply):
            return held.born
        meta, stored = knowledge.meta_for_store(held, managed.store_name, reply.clock, asked_at), reply.meta
        if stored is None:
            return self._write(managed, store, held, meta)
        there = self._born_there(managed.store_name, stored, held, reply.clock, asked_at)
        if stored.version == meta.version:
            return self._renew(managed, store, held, meta, stored, there)
        # If it is younger, other processes here hold newer definitions, which the next poll brings.
        return self._write(managed, store, held, ageing.outranking(meta, stored)) if there < held.born else None

    def _born_there(self, store_name: str, stored: Meta, held: Held, clock: int, asked_at: float) -> float:
        """`Held.born` of what the file has: by its stamp, unless that was made with a key that this process lacks."""
        signs = self._state.know.signs and self._key_of(stored) is not _Key.LACKING
        stored = self._config.codec.believed(stored) if signs else stored
        return knowledge.from_store(store_name, stored, held.definitions, clock, asked_at, signs=signs).born

    def _renew(
        self, managed: ManagedStore, store: Store, held: Held, meta: Meta, stored: Meta, there: float
    ) -> float | None:
        """Renew times and protection of this version in the file if they are old. Returns as `_offer`."""
        key, cleared = self._key_of(stored), stored.epoch < meta.epoch
        renamed = stored.project != meta.project and there < held.born
        current = key is _Key.CURRENT and not cleared and not renamed
        copy = Copy(there, current=current, readable_by_others=key is _Key.LACKING and not cleared)
        if not renew_copy(held, copy, self._config.stale_after):
            return there
        if there > held.born:
            meta = meta._replace(as_of=stored.as_of, confirmed_at=stored.confirmed_at)
        meta = ageing.outranking(meta, stored)
        if not current:
            return self._write(managed, store, held, meta, born=max(there, held.born))
        times = Grant(meta.epoch, meta.as_of, meta.confirmed_at)
        return held.born if self._publisher.confirm_stored(managed, store, meta.version, times) else None

    def _write(
        self, managed: ManagedStore, store: Store, held: Held, meta: Meta, *, born: float | None = None
    ) -> float | None:
        """Write it with these metadata. Returns as `_offer`."""
        published = self._publisher.put(managed, store, held, meta, fresh=False)
        if published is Published.STALE:  # another process was quicker; or nothing is stored, under a higher epoch
            found = store.inspect()
            if found.meta is not None or found.epoch <= meta.epoch:
                return None
            if (
                self._publisher.put(managed, store, held, meta._replace(epoch=found.epoch), fresh=False)
                is Published.STALE
            ):
                return None
        return held.born if born is None else born

    def _key_of(self, stored: Meta) -> _Key:
        """Return which key protects what the file has."""
        try:
            self._config.codec.read_meta(stored)
        except UnknownKeyError:
            return _Key.LACKING
        except EnvelopeError:
            return _Key.OUTDATED
        return _Key.CURRENT if self._config.codec.is_current(stored) else _Key.OUTDATED

    def _is_kept(self, held: Held) -> bool:
        return self._version == held.meta.version and held.born - self._born < self._config.stale_after

    def _is_foreign(self, reply: Reply) -> bool:
        return knowledge.is_foreign(self._state.know, reply.meta)
