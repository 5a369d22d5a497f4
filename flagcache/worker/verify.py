"""What a process believes of a store's answer.

Must never let pass what the codec and `Vendor.check` did not verify, be it a single field of the metadata. One is
believed unverified: the project of what this process lacks the key of, and only in order to leave it alone. What is
broken is dropped. What others may be able to read is left to them: a process that lacks the key waits a moment for a
holder to replace it, or replaces it if it holds definitions itself, and else goes on alone.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from flagcache.core import knowledge as election
from flagcache.errors import EnvelopeError, StoreError, UnknownKeyError, UnreadableHereError
from flagcache.events import ForeignKey, ForeignKeyGone, PayloadAccepted, PayloadRefused
from flagcache.settings import milliseconds
from flagcache.stores.base import Ask, Meta, Reply, Store
from flagcache.vendor import Definitions
from flagcache.worker import troubles
from flagcache.worker.config import Plan
from flagcache.worker.failover import Tier
from flagcache.worker.state import Ledger
from flagcache.worker.trust import Trust

__all__ = ["Heard", "Reader"]

_TOLERATED = 3
"""How often a process replaces what one and the same key protects that it lacks, and how often in a row it finds such
definitions before it says so. Somebody writes on: workers who have that key, and two halves of a fleet that replaced
each other's for ever would both starve."""

_PATIENCE = 2.0
"""Seconds for which a process that holds nothing waits for a holder to replace what it lacks the key of."""

_LOOKS_AGAIN = 60.0
"""Seconds after which a reader that could not delete what is broken, and holds definitions, has it sent again: a worker
may have repaired it under the same version."""


class Heard(NamedTuple):
    """A store's answer, verified: what was not ours is left out."""

    reply: Reply
    definitions: Definitions | None = None
    usable: bool = True
    """False: this process cannot read what others use in this store. It must do without, but for a grant."""
    replaceable: str = ""
    """The version that this process may replace by what it holds, because it lacks the key."""
    again: bool = False
    """The payload was not sent, because this process lacked its key; now it has the key: ask once more."""


class _Refused(NamedTuple):
    """What is stored, and cannot be read by this process."""

    version: str
    reason: EnvelopeError
    since: float
    """Own clock when it was met, or what it followed without anything readable in between."""
    met: float
    """Own clock when it was met last."""
    times: int = 1
    """How often in a row."""


class Reader:
    """Reads the answers of one process's stores.

    Args:
        plan: what all processes of the cache have in common.
        ledger: what this process knows.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self.trust = Trust(plan, ledger)
        self._refused: dict[str, _Refused] = {}
        """By store."""
        self._replaced: tuple[bytes, int] = b"", 0
        """The key of what this process replaced last, and how often."""
        self._outdated: dict[str, str] = {}
        """The version in each store that is protected with another than the first key."""

    def asks(self, ask: Ask, home: str) -> Ask:
        """The poll of this store: what cannot be read is not to be sent again."""
        ask, refused = self.trust.asks(ask, home), self._refused.get(home)
        return ask if refused is None or self._may_have_passed(refused) else ask._replace(held_version=refused.version)

    def read(self, tier: Tier, store: Store, reply: Reply) -> Heard:
        """Verify what the store sent. What is broken counts as absent, and is dropped so that it is repaired."""
        reply = self.trust.hears(tier.home, reply)
        if reply.meta is not None:
            heard = self._read(tier, store, reply, reply.meta)
        else:
            heard = Heard(reply)
            if reply.unchanged and not self._ledger.know.contact(tier.home).foreign:  # it is what is held
                self._readable(tier)
        if not self.trust.leaves_aside(tier.home, heard.reply):
            return heard
        return heard._replace(reply=heard.reply._replace(granted_at=0), usable=False)

    def _read(self, tier: Tier, store: Store, reply: Reply, stored: Meta) -> Heard:
        if reply.too_large:
            much = f"its payload is larger than the {self._plan.codec.largest} bytes that max_decoded_bytes allows for"
            return self._refuse(tier, store, reply, stored, UnreadableHereError(much, passing=True))
        definitions = None
        try:
            meta = self._plan.codec.read_meta(stored)
            if reply.payload is not None:
                definitions = self._open(meta.version, reply.payload)
        except EnvelopeError as exc:
            return self._refuse(tier, store, reply, stored, exc)
        except (MemoryError, RecursionError) as exc:
            here = UnreadableHereError(f"it cannot be checked: {type(exc).__name__}", passing=True)
            return self._refuse(tier, store, reply, stored, here)
        if reply.payload is None and (left := self._left(tier, store, reply, stored)) is not None:
            return left
        return self._verified(tier, reply, meta._replace(stamp=stored.stamp), definitions)

    def _verified(self, tier: Tier, reply: Reply, meta: Meta, definitions: Definitions | None) -> Heard:
        """The answer with what was verified of its metadata; the times are still the store's word."""
        self._readable(tier)
        self._outdated[tier.home] = "" if self._plan.codec.is_current(reply.meta or meta) else meta.version
        meta = self.trust.believed(tier.home, meta, reply.clock)
        if self.trust.wants(tier.home, meta, reply.clock) and definitions is None:
            return Heard(_without_content(reply), again=True)
        return Heard(reply._replace(meta=meta), definitions)

    def take(self, home: str, reply: Reply, definitions: Definitions, asked: float) -> None:
        """Hold what a verified answer brought, unless what is held is newer."""
        if reply.meta is None:
            return
        held = election.told(home, reply.meta, definitions, reply.clock, asked, signs=self._ledger.know.signs)
        self._ledger.take(held, fetched=False)
        if self._ledger.know.held is not held:
            self.trust.passed_over(home, held.meta.version)
        elif reply.payload is not None:
            self._ledger.encoded.received(held.meta.version, reply.payload)

    def tell_outdated(self, home: str, version: str) -> bool:
        """Whether this version is protected there with a key that is on its way out; told once."""
        return bool(version) and self._outdated.pop(home, "") == version

    def replaced(self, tier: Tier) -> None:
        """This process has replaced what it lacks the key of."""
        refused = self._refused.pop(tier.home)
        self._tell_refused(tier.home, refused)
        key_id = refused.reason.key_id if isinstance(refused.reason, UnknownKeyError) else b""
        known, times = self._replaced
        self._replaced = key_id, times + 1 if key_id == known else 1

    def _open(self, version: str, payload: bytes) -> Definitions:
        """Read the payload of metadata that a key of this process protects: so must it be, or it is broken."""
        try:
            definitions = self._plan.vendor.check(self._plan.codec.read(version, payload))
        except UnknownKeyError:
            raise EnvelopeError("its payload was not protected with the key of its metadata") from None
        self._plan.codec.check_name(version, definitions)
        return definitions

    def _readable(self, tier: Tier) -> None:
        """What this store has can be read: say so, if it could not be before."""
        self._refused.pop(tier.home, None)
        ends = {troubles.UNREADABLE: PayloadAccepted, troubles.FOREIGN_KEY: ForeignKeyGone}
        for kind, end in ends.items():
            self._ledger.emit(self._ledger.troubles.found(kind, partial(end, self._plan.namespace), store=tier.home))

    def _left(self, tier: Tier, store: Store, reply: Reply, stored: Meta) -> Heard | None:
        """What becomes of a version that was not sent because it was refused before; None: it was not refused."""
        refused = self._refused.get(tier.home)
        if refused is None or refused.version != stored.version:
            return None
        if isinstance(refused.reason, UnreadableHereError):
            return self._refuse(tier, store, reply, stored, refused.reason)
        if self._holds(stored.version):
            return None
        if _is_broken(refused.reason):
            return Heard(_without_content(reply))  # not deleted unseen: it may be sound by now
        if not reply.republish:  # what is stored was protected anew
            del self._refused[tier.home]
            return Heard(_without_content(reply), again=True)
        return None

    def _refuse(self, tier: Tier, store: Store, reply: Reply, stored: Meta, reason: EnvelopeError) -> Heard:
        reply = _without_content(reply)
        refused = self._note(tier.home, stored.version, reason)
        if isinstance(reason, UnknownKeyError):
            return self._without_key(tier, store, reply, stored, refused)
        if isinstance(reason, UnreadableHereError):
            self._tell_refused(tier.home, refused)
            return Heard(reply._replace(granted_at=0), usable=reply.grant is not None)
        deleted = self._discard(tier, store, stored.version)
        self._tell_refused(tier.home, refused, deleted=deleted)
        if deleted or not self._plan.settings.reads_only:
            del self._refused[tier.home]  # a holder may bring the same version back
        return Heard(reply)

    def _discard(self, tier: Tier, store: Store, version: str) -> bool:
        """Drop what is broken; whether it is gone: another worker may be quicker. A reader drops nothing."""
        if self._plan.settings.reads_only:
            return False
        try:
            store.discard(self._ledger.me, version)
        except StoreError as exc:
            self._ledger.lost(tier, exc)
            return False
        return True

    def _holds(self, version: str) -> bool:
        held = self._ledger.know.held
        return held is not None and held.meta.version == version

    def _may_have_passed(self, refused: _Refused) -> bool:
        """Whether it is to be sent again."""
        if _is_broken(refused.reason):
            return self._ledger.know.held is None or self._plan.clock() - refused.met >= _LOOKS_AGAIN
        return isinstance(refused.reason, UnreadableHereError) and refused.reason.passing

    def _note(self, home: str, version: str, reason: EnvelopeError) -> _Refused:
        before = self._refused.get(home)
        reason.__context__ = reason.__cause__ = None
        reason.__traceback__ = None  # its frames hold the payload
        now = self._plan.clock()
        refused = _Refused(version, reason, now, now)
        if before is not None and type(before.reason) is type(reason):
            refused = refused._replace(since=before.since, times=before.times + 1)
        self._refused[home] = refused
        return refused

    def _tell_refused(self, home: str, refused: _Refused, *, deleted: bool = True) -> None:
        empty = self._ledger.know.held is None or self._ledger.emptied
        kept, reason = isinstance(refused.reason, UnreadableHereError), str(refused.reason)
        made = partial(PayloadRefused, self._plan.namespace, refused.version, home, reason)
        fetches = not self._plan.settings.reads_only
        told = partial(made, empty=empty, kept=kept, fetches=fetches, deleted=deleted and not kept)
        self._ledger.emit(self._ledger.troubles.lost(troubles.UNREADABLE, "unreadable", told, home))

    def _without_key(self, tier: Tier, store: Store, reply: Reply, stored: Meta, refused: _Refused) -> Heard:
        """Others have a key that this process lacks: it may replace what they stored, or wait for who may."""
        if election.is_foreign(self._ledger.know, stored):  # by mistake in our namespace: it is not ours to replace
            return Heard(reply._replace(meta=stored._replace(etag="")))
        reads_only = self._plan.settings.reads_only
        alone = Heard(reply._replace(granted_at=0), usable=reply.grant is not None)
        if self._ledger.know.held is None:
            if self._plan.clock() - refused.since < _PATIENCE and not reads_only:
                if refused.times == 1:
                    self._ask_holders(tier, store, refused.version)
                return Heard(reply)
            self._tell_foreign_key(tier.home)
            return alone
        told = self._ledger.troubles.shuns(tier.home)
        if refused.times > _TOLERATED:
            self._tell_foreign_key(tier.home)
        if reads_only or (told and not self._is_unattended(stored, reply)) or not self._may_replace(refused):
            return alone
        return alone._replace(replaceable=refused.version)

    def _may_replace(self, refused: _Refused) -> bool:
        key_id, times = self._replaced
        same = isinstance(refused.reason, UnknownKeyError) and refused.reason.key_id == key_id
        return not same or times < _TOLERATED

    def _is_unattended(self, stored: Meta, reply: Reply) -> bool:
        """Whether those who can read it seem to be gone: the lease was free, or it has not been confirmed for long."""
        return reply.leads or reply.clock - stored.confirmed_at > milliseconds(self._plan.stale_after)

    def _ask_holders(self, tier: Tier, store: Store, version: str) -> None:
        try:
            store.report(self._ledger.me, version, milliseconds(self._plan.settings.refresh_interval))
        except StoreError as exc:
            self._ledger.lost(tier, exc)

    def _tell_foreign_key(self, home: str) -> None:
        empty, fetches = self._ledger.know.held is None or self._ledger.emptied, not self._plan.settings.reads_only
        told = partial(ForeignKey, self._plan.namespace, home, empty=empty, fetches=fetches)
        self._ledger.emit(self._ledger.troubles.lost(troubles.FOREIGN_KEY, "foreign_key", told, home))


def _is_broken(reason: EnvelopeError) -> bool:
    """Whether no process can read it."""
    return not isinstance(reason, (UnknownKeyError, UnreadableHereError))


def _without_content(reply: Reply) -> Reply:
    return reply._replace(meta=None, payload=None, republish=False)
