"""Checks of a store's reply: definitions that this process can't read or verify are removed from it.

Broken definitions are discarded. Definitions that other processes may be able to read stay in the store. If this
process lacks their key, it replaces them by those that it holds. If it holds none, it waits a moment for another
process to replace them, and then continues without the store.

Invariant: no field of the metadata is used that the codec and `Vendor.check` did not verify. The one exception is the
project of definitions whose key this process lacks: if it is another project's, they are left alone.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from flagcache.core import knowledge
from flagcache.errors import EnvelopeError, StoreError, UnknownKeyError, UnreadableHereError
from flagcache.events import ForeignKey, ForeignKeyGone, PayloadAccepted, PayloadRefused
from flagcache.settings import milliseconds
from flagcache.stores.base import Ask, Meta, Reply, Store
from flagcache.vendor import Definitions
from flagcache.worker import troubles
from flagcache.worker.config import CacheConfig
from flagcache.worker.managed_store import ManagedStore
from flagcache.worker.state import ProcessState
from flagcache.worker.trust import Trust

__all__ = ["ReplyVerifier", "VerifiedReply"]

_TOLERATED = 3
"""How often a process replaces definitions of one key that it lacks, and how often in a row it finds such definitions
before it reports them. Workers with that key may still be writing. If two halves of a fleet replaced each other's
definitions without end, neither half would keep any."""

_PATIENCE = 2.0
"""Seconds for which a process without definitions waits for another one to replace those whose key it lacks."""

_LOOKS_AGAIN = 60.0
"""Seconds after which a reader that holds definitions gets a broken payload again, which it can't delete: a worker may
have repaired it under the same version."""


class VerifiedReply(NamedTuple):
    """A store's reply, without what could not be verified."""

    reply: Reply
    definitions: Definitions | None = None
    usable: bool = True
    """False: this process can't use what others use in this store, and got no grant. It continues without it."""
    replaceable: str = ""
    """The version that this process may replace by what it holds, because it lacks the key."""
    again: bool = False
    """The payload was not sent, but this process needs it and can read it: poll once more."""


class _Refused(NamedTuple):
    """Stored definitions that this process can't read."""

    version: str
    reason: EnvelopeError
    since: float
    """Own clock when the first of several in a row was found."""
    met: float
    """Own clock when this one was last found."""
    times: int = 1
    """How often in a row."""


class ReplyVerifier:
    """Verifies the replies of one process's stores.

    Args:
        config: what all processes of the cache have in common.
        state: what this process knows.
        trust: which times and notes it believes.
    """

    def __init__(self, config: CacheConfig, state: ProcessState, trust: Trust) -> None:
        self._config = config
        self._state = state
        self.trust = trust
        self._refused: dict[str, _Refused] = {}
        """By store."""
        self._replaced: tuple[bytes, int] = b"", 0
        """The key of the definitions that this process replaced last, and how often it did."""
        self._outdated: dict[str, str] = {}
        """By store: the version that is protected with another key than the first."""

    def adjust_poll(self, ask: Ask, store_name: str) -> Ask:
        """Return the poll of this store. It names unreadable definitions, so that the store doesn't send them again."""
        ask, refused = self.trust.adjust_poll(ask, store_name), self._refused.get(store_name)
        return ask if refused is None or self._may_have_passed(refused) else ask._replace(held_version=refused.version)

    def verify(self, managed: ManagedStore, store: Store, reply: Reply) -> VerifiedReply:
        """Verify a reply. Broken definitions count as absent, and are discarded so that they are repaired."""
        reply = self.trust.on_reply(managed.store_name, reply)
        if reply.meta is not None:
            verified = self._verify(managed, store, reply, reply.meta)
        else:
            verified = VerifiedReply(reply)
            doubted = bool(self._refused or self._state.troubles.active)
            if doubted and reply.unchanged and not self._state.know.view(managed.store_name).foreign:  # it is held
                self._readable(managed)
        if not self.trust.distrusts(managed.store_name, verified.reply):
            return verified
        return verified._replace(reply=verified.reply._replace(granted_at=0), usable=False)

    def _verify(self, managed: ManagedStore, store: Store, reply: Reply, stored: Meta) -> VerifiedReply:
        if reply.too_large:
            much = (
                f"its payload is larger than the {self._config.codec.largest} bytes that max_decoded_bytes allows for"
            )
            return self._refuse(managed, store, reply, stored, UnreadableHereError(much, passing=True))
        definitions = None
        try:
            meta = self._config.codec.read_meta(stored)
            if reply.payload is not None:
                definitions = self._open(meta.version, reply.payload)
        except EnvelopeError as exc:
            return self._refuse(managed, store, reply, stored, exc)
        except (MemoryError, RecursionError) as exc:
            here = UnreadableHereError(f"it cannot be checked: {type(exc).__name__}", passing=True)
            return self._refuse(managed, store, reply, stored, here)
        if reply.payload is None and (left := self._left(managed, store, reply, stored)) is not None:
            return left
        return self._verified(managed, reply, meta._replace(stamp=stored.stamp), definitions)

    def _verified(
        self, managed: ManagedStore, reply: Reply, meta: Meta, definitions: Definitions | None
    ) -> VerifiedReply:
        """Return the reply with the verified metadata, and with the times that this process believes."""
        self._readable(managed)
        self._outdated[managed.store_name] = "" if self._config.codec.is_current(reply.meta or meta) else meta.version
        meta = self.trust.believed(managed.store_name, meta, reply.clock)
        if self.trust.wants(managed.store_name, meta, reply.clock, sent=definitions is not None):
            return VerifiedReply(_without_content(reply), again=True)
        return VerifiedReply(reply._replace(meta=meta), definitions)

    def pop_outdated(self, store_name: str, version: str) -> bool:
        """Whether this version is protected in the store with a key that is being replaced; True only once."""
        return bool(version) and self._outdated.pop(store_name, "") == version

    def replaced(self, managed: ManagedStore) -> None:
        """Note that this process has replaced definitions whose key it lacks."""
        refused = self._refused.pop(managed.store_name)
        self._report_refused(managed.store_name, refused)
        key_id = refused.reason.key_id if isinstance(refused.reason, UnknownKeyError) else b""
        known, times = self._replaced
        self._replaced = key_id, times + 1 if key_id == known else 1

    def _open(self, version: str, payload: bytes) -> Definitions:
        """Decode a payload. The key that protects its metadata must protect it too."""
        try:
            definitions = self._config.vendor.check(self._config.codec.read(version, payload))
        except UnknownKeyError:
            raise EnvelopeError("its payload was not protected with the key of its metadata") from None
        self._config.codec.check_name(version, definitions)
        return definitions

    def _readable(self, managed: ManagedStore) -> None:
        """Note that the stored definitions are readable; report it if they were not before."""
        self._refused.pop(managed.store_name, None)
        ends = {troubles.UNREADABLE: PayloadAccepted, troubles.FOREIGN_KEY: ForeignKeyGone}
        for kind, end in ends.items():
            self._state.emit(
                self._state.troubles.end(kind, partial(end, self._config.namespace), store=managed.store_name)
            )

    def _left(self, managed: ManagedStore, store: Store, reply: Reply, stored: Meta) -> VerifiedReply | None:
        """Return the reply for a version that was not sent because it was refused before; None: it was not refused."""
        refused = self._refused.get(managed.store_name)
        if refused is None or refused.version != stored.version:
            return None
        if isinstance(refused.reason, UnreadableHereError):
            return self._refuse(managed, store, reply, stored, refused.reason)
        if self._is_held(stored.version):
            return None
        if _is_broken(refused.reason):
            return VerifiedReply(_without_content(reply))  # not deleted: it may have been repaired
        if not reply.republish:  # another process has protected it with another key
            del self._refused[managed.store_name]
            return VerifiedReply(_without_content(reply), again=True)
        return None

    def _refuse(
        self, managed: ManagedStore, store: Store, reply: Reply, stored: Meta, reason: EnvelopeError
    ) -> VerifiedReply:
        reply = _without_content(reply)
        refused = self._note(managed.store_name, stored.version, reason)
        if isinstance(reason, UnknownKeyError):
            return self._without_key(managed, store, reply, stored, refused)
        if isinstance(reason, UnreadableHereError):
            self._report_refused(managed.store_name, refused)
            return VerifiedReply(reply._replace(granted_at=0), usable=reply.grant is not None)
        deleted = self._discard(managed, store, stored.version)
        self._report_refused(managed.store_name, refused, deleted=deleted)
        if deleted or not self._config.settings.reads_only:
            del self._refused[managed.store_name]  # another process may store the same version again
        return VerifiedReply(reply)

    def _discard(self, managed: ManagedStore, store: Store, version: str) -> bool:
        """Discard broken definitions; return whether they are gone. A reader discards nothing."""
        if self._config.settings.reads_only:
            return False
        try:
            store.discard(self._state.me, version)
        except StoreError as exc:
            self._state.store_failed(managed, exc)
            return False
        return True

    def _is_held(self, version: str) -> bool:
        held = self._state.know.held
        return held is not None and held.meta.version == version

    def _may_have_passed(self, refused: _Refused) -> bool:
        """Whether the store must send it again, because it may be readable by now."""
        if _is_broken(refused.reason):
            return self._state.know.held is None or self._config.clock() - refused.met >= _LOOKS_AGAIN
        return isinstance(refused.reason, UnreadableHereError) and refused.reason.passing

    def _note(self, store_name: str, version: str, reason: EnvelopeError) -> _Refused:
        before = self._refused.get(store_name)
        reason.__context__ = reason.__cause__ = None
        reason.__traceback__ = None  # its frames hold the payload
        now = self._config.clock()
        refused = _Refused(version, reason, now, now)
        if before is not None and type(before.reason) is type(reason):
            refused = refused._replace(since=before.since, times=before.times + 1)
        self._refused[store_name] = refused
        return refused

    def _report_refused(self, store_name: str, refused: _Refused, *, deleted: bool = True) -> None:
        empty = self._state.know.held is None or self._state.emptied
        kept, reason = isinstance(refused.reason, UnreadableHereError), str(refused.reason)
        made = partial(PayloadRefused, self._config.namespace, refused.version, store_name, reason)
        fetches = not self._config.settings.reads_only
        event = partial(made, empty=empty, kept=kept, fetches=fetches, deleted=deleted and not kept)
        self._state.emit(self._state.troubles.begin(troubles.UNREADABLE, "unreadable", event, store_name))

    def _without_key(
        self, managed: ManagedStore, store: Store, reply: Reply, stored: Meta, refused: _Refused
    ) -> VerifiedReply:
        """Return the reply if this process lacks the key: it may replace the definitions, wait, or continue alone."""
        if knowledge.is_foreign(self._state.know, stored):  # it is in our namespace by mistake: don't replace it
            return VerifiedReply(reply._replace(meta=stored._replace(etag="")))
        reads_only = self._config.settings.reads_only
        alone = VerifiedReply(reply._replace(granted_at=0), usable=reply.grant is not None)
        if self._state.know.held is None:
            if self._config.clock() - refused.since < _PATIENCE and not reads_only:
                if refused.times == 1:
                    self._ask_holders(managed, store, refused.version)
                return VerifiedReply(reply)
            self._report_foreign_key(managed.store_name)
            return alone
        reported = self._state.troubles.avoids(managed.store_name)
        if refused.times > _TOLERATED:
            self._report_foreign_key(managed.store_name)
        if reads_only or (reported and not self._is_unattended(stored, reply)) or not self._may_replace(refused):
            return alone
        return alone._replace(replaceable=refused.version)

    def _may_replace(self, refused: _Refused) -> bool:
        key_id, times = self._replaced
        same = isinstance(refused.reason, UnknownKeyError) and refused.reason.key_id == key_id
        return not same or times < _TOLERATED

    def _is_unattended(self, stored: Meta, reply: Reply) -> bool:
        """Whether the workers that can read it seem gone: the lease was free, or the last confirmation is old."""
        return reply.leads or reply.clock - stored.confirmed_at > milliseconds(self._config.stale_after)

    def _ask_holders(self, managed: ManagedStore, store: Store, version: str) -> None:
        try:
            store.report(self._state.me, version, milliseconds(self._config.settings.refresh_interval))
        except StoreError as exc:
            self._state.store_failed(managed, exc)

    def _report_foreign_key(self, store_name: str) -> None:
        empty, fetches = self._state.know.held is None or self._state.emptied, not self._config.settings.reads_only
        event = partial(ForeignKey, self._config.namespace, store_name, empty=empty, fetches=fetches)
        self._state.emit(self._state.troubles.begin(troubles.FOREIGN_KEY, "foreign_key", event, store_name))


def _is_broken(reason: EnvelopeError) -> bool:
    """Whether no process can read the definitions."""
    return not isinstance(reason, (UnknownKeyError, UnreadableHereError))


def _without_content(reply: Reply) -> Reply:
    return reply._replace(meta=None, payload=None, republish=False)
