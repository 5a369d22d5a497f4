"""What a store is: the values that cross its border and the few verbs that every store has.

A store keeps one envelope, one lease and the record of the latest grants for one namespace. Each verb is atomic and one
round trip; all times are integer milliseconds of the store's own clock; every verb may raise `StoreError`, and nothing
else. `flagcache.stores.rules.verbs` tells what each verb does to what is stored; `flagcache.testing` has the suite that
every store must pass.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from flagcache.stores.content import Envelope, Grant, Meta, Order

__all__ = [
    "GRANTED",
    "LARGEST_PAYLOAD",
    "REFRESHER",
    "Ask",
    "Envelope",
    "Grant",
    "Meta",
    "Notice",
    "Order",
    "Published",
    "Replacing",
    "Reply",
    "Scope",
    "Snapshot",
    "Store",
]


REFRESHER = "refresher!"
"""What the identity of a refresher begins with: a process that is there to fetch for a fleet, and goes before those
that are there for something else. No host's name has such a character, so that no worker's identity begins so."""


GRANTED = "granted"
"""The kind of a notice after which no worker asks the store, unless it is of a release that does not know it."""


LARGEST_PAYLOAD = 64 * 1024 * 1024
"""Bytes of the largest payload that any process publishes, whatever its settings. A larger one in a store is damage: it
counts as absent, and the next poll of a worker drops it."""


class Ask(NamedTuple):
    """What a worker says when it polls. Lengths and ages are in milliseconds."""

    me: str
    """The asking process's identity; it tells a refresher from a worker."""
    interval: int
    """Refresh interval: how often the fleet asks the vendor, as this worker sees it."""
    lease: int
    """How long a lease lasts while the store holds definitions."""
    cold_lease: int
    """How long it lasts while the store is empty."""
    challenge: int
    """After how long without a confirmation a leader is challenged."""
    backoff: int = 0
    """How long the fleet waits at most between two grants while fetches fail; never less than the interval."""
    may_lead: bool = True
    """False: neither takes nor renews the lease, and is granted nothing."""
    idle: bool = False
    """No fetch of this process is under way: its last grant has ended, whatever it brought."""
    last_grant: int = 0
    """`as_of` of the last grant that reached this process from this store; a later one was lost, and is given again."""
    grant_age: int = -1
    """How long ago the fleet's latest grant was given, as far as this process knows; -1: knows of none."""
    held: Order | None = None
    """Place of what this process holds; `as_of` 0 where it is not of this store's clock, then `held_age` counts."""
    held_age: int = 0
    """How long ago the fetch of what is held was granted, on this process's own clock."""
    held_version: str = ""
    reports: bool = False
    """This process reports each answer to a fetch. An SDK that fetches says nothing of "unchanged" and of failures."""
    listens: bool = False
    """A thread of this process hears notices and acts between polls: it may be deputy, and may take a turn that the
    leader neglects. One that reports, but only at its polls, would not keep it."""
    watches: bool = False
    """This process is the deputy, and looks whether the fetch that is due was granted."""
    starts: bool = False
    """This process is in its first load: old definitions are not good enough while a fetch can bring new ones."""
    leader: str = ""
    """Who led when this process last asked, so that a reply need not repeat it."""
    max_payload: int = LARGEST_PAYLOAD
    """Bytes of the largest payload that this process takes."""
    doubts_lease: bool = False
    """`leader` has led an empty store for too long without publishing: its lease does not count while it is empty."""
    ignores_backoff: bool = False
    """This process does not believe the stored note, which then does not keep it from fetching."""
    has_key: bool = False
    """This process has a key. The reply has the store's epoch and its stamp if it differs from that of what is held."""
    epoch_stamp: str = ""
    """The signed epoch of what is held; for a store that has lost that epoch."""
    unsigned_epoch: int = 0
    """The store's epoch that has no signature. If it is still stored, that of what is held replaces it."""
    doubted_stamp: str = ""
    """What stood in the place of its signature: people may have raised the epoch to the same number since."""


class Reply(NamedTuple):
    """What the store answers to a poll."""

    clock: int
    leads: bool
    """The asker holds the lease."""
    lease_left: int
    """Until the lease ends, whoever holds it; 0: nobody does."""
    granted_at: int
    """When the fleet's latest grant was given; 0: never."""
    grant: Grant | None = None
    unchanged: bool = False
    """What is stored is exactly what the asker holds; `meta` and `payload` are then left out."""
    meta: Meta | None = None
    """Of what is stored, unless unchanged; None otherwise says that nothing readable is stored."""
    payload: bytes | None = None
    """Only when it is newer than what the asker holds and of another version."""
    republish: bool = False
    """The asker holds newer than the store and is the one to repair it."""
    backoff_status: int = 0
    """Why the fleet's latest fetch failed for everybody (an HTTP status), until one succeeds; 0: it did not."""
    backoff_left: int = 0
    """Until the fleet may fetch again; 0: now."""
    backoff_stamp: str = ""
    """The signed note, if the fleet has a key; without a note, and if no try is left, the latest failure, signed."""
    deputy: bool = False
    """The asker is the one follower that looks whether each fetch that is due was granted."""
    fetching: bool = False
    """Another process is fetching: the latest grant is still open, and its holder renewed its lease lately. Of a holder
    that does not report only its first grant as leader counts."""
    exhausted: bool = False
    """The latest fetches failed one after the other, so often that nobody may fetch again in this interval."""
    leader: str | None = None
    """Identity of the process that leads, empty if none does; None: the same as in the poll."""
    too_large: bool = False
    """The payload is newer than what the asker holds, and was not sent because it is larger than the asker takes."""
    epoch: int = -1
    """The store's epoch, if the asker has a key and holds nothing of it; else -1."""
    epoch_stamp: str = ""
    """That epoch, signed."""


class Published(Enum):
    """What became of a publication."""

    STORED = "stored"
    CONFIRMED = "confirmed"
    """The store held this version already; at most its ages moved."""
    STALE = "stale"
    """Refused: newer is stored, or people cleared the store since the fetch was granted."""
    UNSETTLED = "unsettled"
    """Refused for now: a later grant went to a holder that does not report its answers, so that it may have found newer
    definitions. What is stored is older; it may be kept in use until another grant is answered."""


class Replacing(NamedTuple):
    """What a publication may take the place of, whatever its order: the publisher lacks the key of this version."""

    version: str
    interval: int
    """Milliseconds in which the namespace sees one such publication at most; 0: any time."""


class Scope(Enum):
    """Whom a failed fetch concerns."""

    MINE = "mine"
    EVERYBODY = "everybody"


class Notice(NamedTuple):
    """The small message that says: ask the store. Never trusted for more than that."""

    kind: str
    """`new`: other definitions were published; `free`: the lease was given up; `note`: fetches began to fail for
    everybody, or no longer do, or a new leader has no deputy, or what was stored was broken; `clear`: people emptied
    the store; `granted`: a store that had lost its memory gave a grant to a worker that had not. A worker asks the
    store after a kind that it does not know: a new one must be rare."""
    epoch: int
    version: str
    """Of what is stored; of `granted` the grant's `as_of`."""


class Snapshot(NamedTuple):
    """What `inspect` shows to people: everything stored but the payload itself."""

    clock: int
    epoch: int
    meta: Meta | None
    payload_size: int
    leader: str
    lease_left: int
    granted_at: int
    grant_holder: str
    backoff_status: int
    backoff_left: int


class Store(Protocol):
    """Where one namespace's envelope and lease live. Thread-safe; belongs to one process."""

    def poll(self, ask: Ask) -> Reply:
        """Take or renew the lease if it may be, and tell what is stored if it is newer than what is held."""
        ...

    def publish(
        self, me: str, envelope: Envelope, *, fresh: bool, lease: int, replacing: Replacing | None = None
    ) -> Published:
        """Store payload and metadata together and send a notice, if they are newer than what is stored.

        Args:
            me: identity of the publishing process.
            envelope: what to store.
            fresh: True for what a fetch has just brought: then it is refused also if a later grant counts against it,
                which is one given to a holder that does not report its answers, unless it is known to have failed.
                False for a repair of the store from a process's memory.
            lease: milliseconds for which the lease is kept from now, if it is held by `me`.
            replacing: store them only in the place of this version, and then if they are older too.
        """
        ...

    def confirm(self, me: str, version: str, grant: Grant, *, lease: int, stamp: str = "") -> bool:
        """Move the ages of the stored version to the grant's time; False when another or no version is stored.

        `stamp` is `Meta.stamp` of that version with these times.
        """
        ...

    def discard(self, me: str, version: str) -> bool:
        """Drop what is stored if it is still this version, because it is broken, and send a notice: holders repair it.

        The lease ends within 2 s unless its holder renews it.
        """
        ...

    def report(self, me: str, version: str, interval: int) -> bool:
        """Say that the key of this version is lacking: a notice asks the holders to look, once in so many ms."""
        ...

    def fail(
        self, me: str, as_of: int, scope: Scope, *, status: int = 0, retry_after: int = 0, stamp: str = ""
    ) -> bool:
        """Note that the fetch of this grant failed; False, and nothing happens, if it is not the latest grant.

        `Scope.MINE` gives up the lease; `Scope.EVERYBODY` keeps all from fetching for `retry_after`, by a
        note that has this `stamp`.
        """
        ...

    def renew(self, me: str, lease: int) -> bool:
        """Keep the lease; False if it is not held by `me`."""
        ...

    def release(self, me: str, *, idle: bool) -> bool:
        """Give up the lease if it is held by `me`, and send a notice. `idle` is as in `Ask`."""
        ...

    def inspect(self) -> Snapshot:
        """Tell everything, for people."""
        ...

    def clear(self, stamp: str = "") -> int:
        """Delete the definitions permanently, and return the epoch, raised so that no worker restores the old ones.

        If the fleet has a key, `stamp` is the signature of the new epoch, which is the current one plus 1. Workers
        undo a `clear` without a signature, or with the signature of an epoch other than the returned one.

        The lease ends within 2 s unless its holder renews it, as one does that hears the notice.
        """
        ...

    def close(self) -> None:
        """Close what this process opened, for good; whoever needs the store again makes another."""
        ...
