"""The base of all cases: their fixtures, and a worker that polls and fetches as a process would.

Lengths of time are the asker's. Each case makes short only the times that it lets pass, and long those that must not
end meanwhile, so a slow machine fails no test.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import pytest

from flagcache.stores.base import LARGEST_PAYLOAD, Ask, Envelope, Grant, Meta, Order, Published, Reply, Scope, Store

__all__ = ["AT_ONCE", "LONG", "SHORT", "Cases", "MakeStore", "PassTime", "Worker", "envelope", "repair"]

LONG = 1_000_000
"""Milliseconds: longer than any test lasts."""

SHORT = 20
"""Milliseconds that a test lets pass."""

AT_ONCE = 1
"""A refresh interval (ms) by which a grant is always due."""

MakeStore: TypeAlias = "Callable[[str], Store]"
"""Opens a new, independent handle onto the one backing, for the namespace; called on one thread or on many."""

PassTime: TypeAlias = "Callable[[int], None]"
"""Returns when the store's clock has moved on by this many milliseconds."""


class Cases:
    """The fixtures of every case. There are two handles, so a store can't pass by remembering things in one of them."""

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Return a function that opens handles onto one backing, which may still hold other tests' namespaces."""
        raise NotImplementedError("the contract needs a fixture `make_store`")

    @pytest.fixture
    def namespace(self) -> str:
        """Return a namespace that no other test uses."""
        return f"contract-{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def store(self, make_store: MakeStore, namespace: str) -> Iterator[Store]:
        """Open the namespace."""
        store = make_store(namespace)
        yield store
        store.close()

    @pytest.fixture
    def other(self, make_store: MakeStore, namespace: str) -> Iterator[Store]:
        """Open the same namespace again, as another process would."""
        store = make_store(namespace)
        yield store
        store.close()

    @pytest.fixture
    def pass_time(self, store: Store) -> PassTime:
        """Return a function that waits, by the store's own clock."""

        def wait(milliseconds: int) -> None:
            end = store.inspect().clock + milliseconds
            deadline = time.monotonic() + milliseconds / 1000 + 10
            while (left := end - store.inspect().clock) > 0:
                assert time.monotonic() < deadline, "the store's clock stands still"
                time.sleep(left / 1000)

        return wait


@dataclass(slots=True)
class Worker:
    """A process as the store sees it, which remembers its last grant and what it holds.

    All lengths are long by default; a test may change them between two polls.
    """

    store: Store
    me: str
    interval: int = LONG
    lease: int = LONG
    cold_lease: int = LONG
    challenge: int = LONG
    backoff: int = 0
    may_lead: bool = True
    idle: bool = False
    last_grant: int = 0
    grant_age: int = -1
    held: Order | None = None
    held_age: int = 0
    held_version: str = ""
    reports: bool = False
    listens: bool | None = None
    """None: as `reports`."""
    watches: bool = False
    starts: bool = False
    leader: str = ""
    disbelieves: bool = False
    signs: bool = False
    epoch_stamp: str = ""
    unsigned_epoch: int = 0
    doubted_stamp: str = ""
    largest: int = LARGEST_PAYLOAD
    doubts: bool = False

    def poll(self) -> Reply:
        """Poll the store, and remember a grant."""
        reply = self.store.poll(
            Ask(
                me=self.me,
                interval=self.interval,
                lease=self.lease,
                cold_lease=self.cold_lease,
                challenge=self.challenge,
                backoff=self.backoff,
                may_lead=self.may_lead,
                idle=self.idle,
                last_grant=self.last_grant,
                grant_age=self.grant_age,
                held=self.held,
                held_age=self.held_age,
                held_version=self.held_version,
                reports=self.reports,
                listens=self.reports if self.listens is None else self.listens,
                watches=self.watches,
                starts=self.starts,
                leader=self.leader,
                ignores_backoff=self.disbelieves,
                has_key=self.signs,
                epoch_stamp=self.epoch_stamp,
                unsigned_epoch=self.unsigned_epoch,
                doubted_stamp=self.doubted_stamp,
                max_payload=self.largest,
                doubts_lease=self.doubts,
            )
        )
        if reply.grant:
            self.last_grant = reply.grant.as_of
        return reply

    def granted(self) -> Grant:
        """Poll, and return the grant, which must come."""
        reply = self.poll()
        assert reply.leads, f"{self.me} should lead: {reply}"
        assert reply.grant is not None, f"{self.me} should be granted a fetch: {reply}"
        return reply.grant

    def publish(self, grant: Grant, version: str, *, lease: int = LONG) -> Published:
        """Publish what the fetch of this grant brought."""
        return self.store.publish(self.me, envelope(grant, version), fresh=True, lease=lease)

    def bring(self, version: str) -> Grant:
        """Poll, fetch and publish, all of which must succeed."""
        grant = self.granted()
        assert self.publish(grant, version) is Published.STORED
        return grant

    def fail(self, grant: Grant, scope: Scope = Scope.MINE, *, status: int = 0, retry_after: int = 0) -> bool:
        """Report that the fetch of this grant failed."""
        return self.store.fail(self.me, grant.as_of, scope, status=status, retry_after=retry_after)

    def adopt(self, meta: Meta) -> None:
        """Adopt definitions."""
        self.held, self.held_version = meta.order, meta.version


def envelope(grant: Grant, version: str) -> Envelope:
    """Return definitions as the fetch of this grant would bring them."""
    meta = Meta(version, grant.epoch, grant.as_of, changed_at=grant.at, confirmed_at=grant.at)
    return Envelope(meta, f"payload of {version}".encode())


def repair(store: Store, version: str, *, age: int = 0, epoch: int = 0) -> Meta:
    """Publish, from a process's memory, what was granted `age` milliseconds ago by the store's clock; must succeed."""
    at = store.inspect().clock - age
    meta = Meta(version, epoch, at, changed_at=at, confirmed_at=at)
    content = envelope(Grant(epoch, at, at), version)._replace(meta=meta)
    assert store.publish("keeper", content, fresh=False, lease=LONG) is Published.STORED
    return meta
