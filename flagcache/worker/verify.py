"""What a process believes of a store's answer.

Must never let pass what the codec and `Vendor.check` did not verify, be it a single field of the metadata.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from flagcache.errors import EnvelopeError, StoreError, UnknownKeyError
from flagcache.events import ForeignKey, ForeignKeyGone, PayloadAccepted, PayloadRefused
from flagcache.stores.base import Reply, Store
from flagcache.vendor import Definitions
from flagcache.worker import troubles
from flagcache.worker.config import Plan
from flagcache.worker.failover import Tier
from flagcache.worker.state import Ledger

__all__ = ["Heard", "Reader"]

_TOLERATED = 3
"""How often in a row a process discards what was protected with one and the same key that it lacks. Somebody writes on:
workers who have that key, and two halves of a fleet that discarded each other's for ever would both starve."""


class Heard(NamedTuple):
    """A store's answer, verified: what was not ours is left out."""

    reply: Reply
    definitions: Definitions | None = None
    usable: bool = True
    """False: others use this store with a key that this process lacks. It must do without, but for a grant."""


class Reader:
    """Reads the answers of one process's stores.

    Args:
        plan: what all processes of the cache have in common.
        ledger: what this process knows.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self._lacking: tuple[bytes, int] = b"", 0
        """The key that was last found to be lacking, and how often in a row."""
        self._outdated: dict[str, str] = {}
        """The version in each store that is protected with another than the first key."""

    def read(self, tier: Tier, store: Store, reply: Reply) -> Heard:
        """Verify what the store sent. What cannot be read counts as absent, and is dropped so that it is repaired."""
        if reply.meta is None:
            if reply.unchanged:  # it is what is held
                self._readable(tier)
            return Heard(reply)
        definitions = None
        try:
            meta = self._plan.codec.read_meta(reply.meta)
            if reply.payload is not None:
                definitions = self._plan.vendor.check(self._plan.codec.read(meta.version, reply.payload))
        except EnvelopeError as exc:
            return self._refuse(tier, store, reply, exc)
        self._readable(tier)
        self._outdated[tier.home] = "" if self._plan.codec.is_current(reply.meta) else meta.version
        return Heard(reply._replace(meta=meta), definitions)

    def tell_outdated(self, home: str, version: str) -> bool:
        """Whether this version is protected there with a key that is on its way out; told once."""
        return bool(version) and self._outdated.pop(home, "") == version

    def _readable(self, tier: Tier) -> None:
        """What this store has can be read: say so, if it could not be before."""
        ends = {troubles.UNREADABLE: PayloadAccepted, troubles.FOREIGN_KEY: ForeignKeyGone}
        for kind, end in ends.items():
            self._ledger.emit(self._ledger.troubles.found(kind, partial(end, self._plan.namespace), store=tier.home))

    def _refuse(self, tier: Tier, store: Store, reply: Reply, reason: EnvelopeError) -> Heard:
        version = reply.meta.version if reply.meta else ""
        reply = reply._replace(meta=None, payload=None, republish=False)
        if isinstance(reason, UnknownKeyError) and self._lacks(reason.key_id, tier.home):
            return Heard(reply._replace(granted_at=0), usable=reply.grant is not None)
        empty = self._ledger.know.held is None or self._ledger.emptied
        refused = partial(PayloadRefused, self._plan.namespace, version, tier.home, str(reason), empty=empty)
        self._ledger.emit(self._ledger.troubles.lost(troubles.UNREADABLE, "unreadable", refused, tier.home))
        try:
            store.discard(self._ledger.me, version)
        except StoreError as exc:
            self._ledger.lost(tier, exc)
        return Heard(reply)

    def _lacks(self, key_id: bytes, home: str) -> bool:
        """Whether others have shown that they will go on with this key."""
        known, times = self._lacking
        times = times + 1 if key_id == known else 1
        self._lacking = key_id, times
        if times > _TOLERATED:
            told = partial(ForeignKey, self._plan.namespace, home)
            self._ledger.emit(self._ledger.troubles.lost(troubles.FOREIGN_KEY, "foreign_key", told, home))
        return times > _TOLERATED
