"""One process's connection to one store: requests and replies take time, and some are lost.

A request is on its way independently of the process that waits for its answer, which may be frozen or dead when its
verb is applied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from flagcache.errors import StoreError
from flagcache.stores.abilities import Subscription
from flagcache.stores.base import Ask, Envelope, Grant, Meta, Published, Replacing, Reply, Scope, Snapshot
from tests.simulation.scheduler import current_task
from tests.simulation.stores import LinkedProcess, SharedStore
from tests.simulation.threads import Event

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

__all__ = ["Link"]

_T = TypeVar("_T")


class Link:
    """One process's connection to one store (`flagcache.stores.base.Store`, and `Subscribable`)."""

    def __init__(self, process: LinkedProcess, store: SharedStore, oracle: Oracle) -> None:
        self._process = process
        self._store = store
        self._oracle = oracle

    def poll(self, ask: Ask) -> Reply:
        """As `Store.poll`."""
        asked = self._oracle.before_poll(ask)

        def apply() -> Reply:
            before = self._store.state
            reply = self._store.poll(ask)
            if self._store.state.epoch > before.epoch:  # people cleared another one, and this one follows
                self._store.spoiled()
            self._oracle.after_poll(self._store, ask, asked, (before, reply))
            return reply

        reply = self._call("poll", apply)
        self._oracle.on_reply(self._store.uid, reply)
        return reply

    def publish(
        self, me: str, envelope: Envelope, *, fresh: bool, lease: int, replacing: Replacing | None = None
    ) -> Published:
        """As `Store.publish`."""
        self._oracle.before_publish(self._store.uid, envelope.meta)

        def apply() -> Published:
            before = self._store.state
            published = self._store.publish(me, envelope, fresh=fresh, lease=lease, replacing=replacing)
            self._oracle.after_write(self._store, before, fresh=fresh, taken=published is not Published.STALE)
            return published

        return self._call("publish", apply)

    def confirm(self, me: str, version: str, grant: Grant, *, lease: int, stamp: str = "") -> bool:
        """As `Store.confirm`."""
        self._oracle.before_confirm(self._store.uid, Meta(version, grant.epoch, grant.as_of, grant.at, grant.at))

        def apply() -> bool:
            before = self._store.state
            taken = self._store.confirm(me, version, grant, lease=lease, stamp=stamp)
            self._oracle.after_write(self._store, before, fresh=True, taken=taken)
            return taken

        return self._call("confirm", apply)

    def discard(self, me: str, version: str) -> bool:
        """As `Store.discard`."""

        def apply() -> bool:
            dropped = self._store.discard(me, version)
            if dropped:
                self._store.spoiled()
            return dropped

        return self._call("discard", apply)

    def report(self, me: str, version: str, interval: int) -> bool:
        """As `Store.report`."""
        return self._call("report", lambda: self._store.report(me, version, interval))

    def fail(
        self, me: str, as_of: int, scope: Scope, *, status: int = 0, retry_after: int = 0, stamp: str = ""
    ) -> bool:
        """As `Store.fail`."""
        return self._call(
            "fail", lambda: self._store.fail(me, as_of, scope, status=status, retry_after=retry_after, stamp=stamp)
        )

    def renew(self, me: str, lease: int) -> bool:
        """As `Store.renew`."""
        return self._call("renew", lambda: self._store.renew(me, lease))

    def release(self, me: str, *, idle: bool) -> bool:
        """As `Store.release`."""
        return self._call("release", lambda: self._store.release(me, idle=idle))

    def inspect(self) -> Snapshot:
        """As `Store.inspect`."""
        return self._call("inspect", self._store.inspect)

    def clear(self, stamp: str = "") -> int:
        """As `Store.clear`."""
        return self._call("clear", lambda: self._store.clear(stamp))

    def close(self) -> None:
        """Nothing is kept open."""

    def subscribe(self) -> Subscription:
        """As `Subscribable.subscribe`."""
        return self._call("subscribe", lambda: self._store.listen(self._process))

    def _call(self, verb: str, apply: Callable[[], _T]) -> _T:
        network, store, process = self._store.network, self._store, self._process
        record = current_task().record
        record.verbs += 1
        process.point(f"before {verb}")
        box: list[_T] = []
        done = Event()

        def arrive() -> None:
            if not store.reachable(process):
                return
            box.append(apply())
            store.send_notices()
            if not network.happens(network.lost_replies):
                store.scheduler.after(network.delay(), done.set)

        if not network.happens(network.lost_requests):
            store.scheduler.after(network.delay(), lambda: store.receive(arrive))
        if not done.wait(process.store_timeout) or not store.reachable(process):
            record.failures += 1
            process.disturbed()
            raise StoreError(f"{verb}: no answer")
        process.point(f"after {verb}")
        return box[0]
