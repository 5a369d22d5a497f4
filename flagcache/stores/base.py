"""The interface of a store: the values that it takes and returns, and the few verbs that every store has.

A store keeps one envelope, one lease and the record of the latest grants for one namespace. Each verb is atomic and one
round trip; all times are integer milliseconds of the store's own clock; every verb may raise `StoreError`, and nothing
else. `flagcache.stores.rules.verbs` defines what each verb does to the stored state; `flagcache.testing` has the suite
that every store must pass.
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
"""The beginning of the identity of a refresher, a process that exists to fetch for a fleet and takes precedence over
workers. No host name has such a character, so no worker's identity begins like this."""


GRANTED = "granted"
"""The kind of a notice after which no worker asks the store, except one of a release that doesn't know it."""


LARGEST_PAYLOAD = 64 * 1024 * 1024
"""Bytes of the largest payload that any process publishes, whatever its settings. A larger one in a store is damage: it
counts as absent, and the next poll of a worker drops it."""


class Ask(NamedTuple):
    """The arguments of a poll. Lengths and ages are in milliseconds."""

    me: str
    """The asking process's identity; it distinguishes a refresher from a worker."""
    interval: int
    """Refresh interval: how often the fleet asks the vendor, as this worker sees it."""
    lease: int
    """How long a lease lasts while the store holds definitions."""
    cold_lease: int
    """How long a lease lasts while the store is empty."""
    challenge: int
    """The time without a confirmation after which a leader is challenged."""
    backoff: int = 0
    """The longest time between two grants while fetches fail; never less than the interval."""
    may_lead: bool = True
    """False: neither takes nor renews the lease, and is granted nothing."""
    idle: bool = False
    """No fetch of this process is under way: its last grant has ended, whatever it brought."""
    last_grant: int = 0
    """`as_of` of the last grant of this store that reached this process; a later one was lost, and is given again."""
    grant_age: int = -1
    """The age of the fleet's latest grant, as far as this process knows; -1: it knows of none."""
    held: Order | None = None
    """Order of what this process holds; `as_of` is 0 if it is not of this store's clock, and then `held_age` counts."""
    held_age: int = 0
    """The age of the grant of what is held, on this process's own clock."""
    held_version: str = ""
    reports: bool = False
    """This process reports each answer to a fetch. An SDK that fetches reports neither "unchanged" nor failures."""
    listens: bool = False
    """A thread of this process listens for notices and acts between polls, so the process may be deputy, and may take a
    turn that the leader neglects. A process that acts only at its polls would not keep that turn."""
    watches: bool = False
    """This process is the deputy, and checks whether the due fetch was granted."""
    starts: bool = False
    """This process is in its first load: old definitions are not good enough while a fetch can bring new ones."""
    leader: str = ""
    """The leader when this process last asked, so that a reply need not repeat it."""
    max_payload: int = LARGEST_PAYLOAD
    """Bytes of the largest payload that this process takes."""
    doubts_lease: bool = False
    """`leader` has led an empty store for too long without publishing: its lease does not count while it is empty."""
    ignores_backoff: bool = False
    """This process does not believe the stored note, which then does not keep it from fetching."""
    has_key: bool = False
    """This process has a key. If the store's epoch differs from that of what is held, the reply has it with its
    stamp."""
    epoch_stamp: str = ""
    """The signed epoch of what is held, for a store that has lost that epoch."""
    unsigned_epoch: int = 0
    """The store's unsigned epoch. If it is still stored, the epoch of what is held replaces it."""
    doubted_stamp: str = ""
    """What is in the place of its signature, because people may have raised the epoch to the same number since."""


class Reply(NamedTuple):
    """The store's reply to a poll."""

    clock: int
    leads: bool
    """The asker holds the lease."""
    lease_left: int
    """Time until the lease expires, whichever worker holds it; 0: it is free."""
    granted_at: int
    """When the fleet's latest grant was given; 0: never."""
    grant: Grant | None = None
    unchanged: bool = False
    """The store holds exactly what the asker holds; `meta` and `payload` are then left out."""
    meta: Meta | None = None
    """The stored definitions' metadata, unless unchanged. If it is None otherwise, nothing readable is stored."""
    payload: bytes | None = None
    """Sent only if it is newer than what the asker holds and of another version."""
    republish: bool = False
    """The asker holds newer definitions than the store, and is asked to repair it."""
    backoff_status: int = 0
    """Why the fleet's latest fetch failed for all workers (an HTTP status), until one succeeds; 0: it did not."""
    backoff_left: int = 0
    """Time until the fleet may fetch again; 0: now."""
    backoff_stamp: str = ""
    """The signed note, if the fleet has a key. Without a note, and if no try is left: the latest failure, signed."""
    deputy: bool = False
    """The asker is the one follower that checks whether each due fetch was granted."""
    fetching: bool = False
    """Another process is fetching: the latest grant is still open, and its holder renewed its lease recently. If the
    holder does not report, only its first grant as leader counts."""
    exhausted: bool = False
    """The latest fetches failed one after the other, so often that no worker may fetch again in this interval."""
    leader: str | None = None
    """Identity of the leader; empty if there is none; None: the same as in the poll."""
    too_large: bool = False
    """The payload is newer than what the asker holds, and was not sent because it is larger than the asker takes."""
    epoch: int = -1
    """The store's epoch, if the asker has a key and holds nothing of that epoch; else -1."""
    epoch_stamp: str = ""
    """The signed epoch."""


class Published(Enum):
    """The result of a publication."""

    STORED = "stored"
    CONFIRMED = "confirmed"
    """The store already held this version; at most its ages moved."""
    STALE = "stale"
    """Refused: newer definitions are stored, or people cleared the store since the fetch was granted."""
    UNSETTLED = "unsettled"
    """Refused for now: a later grant went to a holder that does not report its answers, which may have found newer
    definitions. The stored ones are older; the publisher may use its own until another grant is answered."""


class Replacing(NamedTuple):
    """The version that a publication may replace, whatever its order: the publisher lacks the key of this version."""

    version: str
    interval: int
    """The namespace allows one such publication in this many milliseconds; 0: no limit."""


class Scope(Enum):
    """The workers that a failed fetch concerns."""

    MINE = "mine"
    EVERYBODY = "everybody"


class Notice(NamedTuple):
    """A small message that tells processes to poll the store. They believe nothing else in it."""

    kind: str
    """`new`: other definitions were published; `free`: the lease was given up; `note`: fetches began to fail for all
    workers, or no longer do, or a new leader has no deputy, or the stored content was broken; `clear`: people emptied
    the store; `granted`: a store that had lost its memory gave a grant to a worker that had not. A worker also polls
    after an unknown kind, so a new kind must be rare."""
    epoch: int
    version: str
    """The version that is stored; for `granted`, the grant's `as_of`."""


class Snapshot(NamedTuple):
    """What `inspect` shows to people: everything stored except the payload."""

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
    """The envelope and the lease of one namespace. Thread-safe; belongs to one process."""

    def poll(self, ask: Ask) -> Reply:
        """Take or renew the lease if possible, and return what is stored if it is newer than what is held."""
        ...

    def publish(
        self, me: str, envelope: Envelope, *, fresh: bool, lease: int, replacing: Replacing | None = None
    ) -> Published:
        """Store payload and metadata together and send a notice, if they are newer than what is stored.

        Args:
            me: identity of the publishing process.
            envelope: to be stored.
            fresh: True if a fetch has just brought it. Then it is also refused if a later grant counts against it: one
                of a holder that does not report its answers, unless it is known to have failed. False for a repair of
                the store from a process's memory.
            lease: milliseconds for which the lease is kept from now, if it is held by `me`.
            replacing: store them only in the place of this version, even if they are older.
        """
        ...

    def confirm(self, me: str, version: str, grant: Grant, *, lease: int, stamp: str = "") -> bool:
        """Move the ages of the stored version to the grant's time; False if another version or none is stored.

        `stamp` is `Meta.stamp` of that version with these times.
        """
        ...

    def discard(self, me: str, version: str) -> bool:
        """Delete the broken definitions if they are still this version, and send a notice: holders repair the store.

        The lease expires within 2 s unless its holder renews it.
        """
        ...

    def report(self, me: str, version: str, interval: int) -> bool:
        """Report that the key of this version is lacking; a notice asks holders to look, at most once an interval."""
        ...

    def fail(
        self, me: str, as_of: int, scope: Scope, *, status: int = 0, retry_after: int = 0, stamp: str = ""
    ) -> bool:
        """Record that the fetch of this grant failed; False, without effect, if it is not the latest grant.

        `Scope.MINE` gives up the lease; `Scope.EVERYBODY` keeps all workers from fetching for `retry_after`, by a note
        with this `stamp`.
        """
        ...

    def renew(self, me: str, lease: int) -> bool:
        """Renew the lease; False if `me` doesn't hold it."""
        ...

    def release(self, me: str, *, idle: bool) -> bool:
        """Give up the lease if `me` holds it, and send a notice. `idle` is as in `Ask`."""
        ...

    def inspect(self) -> Snapshot:
        """Return everything, for people."""
        ...

    def clear(self, stamp: str = "") -> int:
        """Delete the definitions permanently, and return the epoch, raised so that no worker restores them.

        If the fleet has a key, `stamp` is the signature of the new epoch, which is the current one plus 1. Workers
        undo a `clear` without a signature, or with the signature of an epoch other than the returned one.

        The lease expires within 2 s unless its holder renews it, as it does if it gets the notice.
        """
        ...

    def close(self) -> None:
        """Close permanently what this process opened; to use the store again, make another one."""
        ...
