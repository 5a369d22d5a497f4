# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""The stores for `test_machine.py`: each is used through two handles, and a test moves its time.

Memory and SQLite go by a clock that the test sets. A Redis server goes by its own: there all stored times move back,
and `ShiftedStore` shows the store as it would look if the clock had moved on instead.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path

from typing_extensions import override

from flagcache.stores.base import Ask, Envelope, Grant, Meta, Order, Published, Replacing, Reply, Scope, Snapshot, Store
from flagcache.stores.memory import MemoryStore
from flagcache.stores.redis.store import RedisStore
from flagcache.stores.sqlite.store import SqliteStore, name_of
from tests.stores.redis_beside_rules import move_times_back
from tests.support.servers import RedisServer

_serial = itertools.count()

SPOILT = {"as_of": "x", "changed_at": "-1", "confirmed_at": "", "payload": "short"}
"""What a damaged store holds in the place of a number, or of a payload of another length."""


class StoreWithClock(ABC):
    """A store, and what befalls it."""

    handles: tuple[Store, ...]
    """As different processes would have them."""
    tolerance = 0
    """Milliseconds by which a lease may end earlier or later than it was promised."""
    damageable = True

    @abstractmethod
    def pass_time(self, milliseconds: int) -> None:
        """Move the store's clock on."""

    @abstractmethod
    def flush(self) -> None:
        """Lose all that is stored."""

    @abstractmethod
    def damage(self, field: str) -> None:
        """Spoil one field of what is stored."""

    def close(self) -> None:
        """End it."""
        for store in self.handles:
            store.close()


class _Clock:
    def __init__(self) -> None:
        self.now = time.time_ns() // 1_000_000

    def __call__(self) -> int:
        return self.now


class MemoryWithClock(StoreWithClock):
    """In memory: all handles are one."""

    damageable = False

    def __init__(self) -> None:
        self._clock = _Clock()
        self.flush()

    @override
    def pass_time(self, milliseconds: int) -> None:
        self._clock.now += milliseconds

    @override
    def flush(self) -> None:
        store = MemoryStore(self._clock)
        self.handles = (store, store)

    @override
    def damage(self, field: str) -> None:
        raise NotImplementedError


class SqliteWithClock(StoreWithClock):
    """In a file, which all machines of a test share."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clock = _Clock()
        self._namespace = f"machine-{next(_serial)}"
        self.handles = tuple(SqliteStore(path, self._namespace, timeout=20.0, clock=self._clock) for _ in range(2))
        self._connection = sqlite3.connect(path, timeout=20.0, isolation_level=None)

    @override
    def pass_time(self, milliseconds: int) -> None:
        self._clock.now += milliseconds

    @override
    def flush(self) -> None:
        for table in ("state", "payload", "notice"):
            self._execute(f"DELETE FROM {table} WHERE namespace = ?")

    @override
    def damage(self, field: str) -> None:
        if field == "payload":
            self._execute("UPDATE payload SET body = ? WHERE namespace = ?", SPOILT[field].encode())
        else:
            self._execute(f"UPDATE state SET {field} = ? WHERE namespace = ?", SPOILT[field])

    @override
    def close(self) -> None:
        self._connection.close()
        super().close()

    def _execute(self, statement: str, *values: str | bytes) -> None:
        with closing(self._connection.execute(statement, (*values, name_of(self._namespace)))):
            pass


class RedisWithClock(StoreWithClock):
    """On a server, which all machines of a test share."""

    tolerance = 2000  # the server counts the lease by itself, and a slow machine sleeps between two looks at its clock

    def __init__(self, server: RedisServer) -> None:
        self._client = server.client()
        namespace = f"machine-{next(_serial)}"
        stores = [RedisStore(server.url, namespace, timeout=20.0) for _ in range(2)]
        self._keys = stores[0].keys
        self._later = [ShiftedStore(store) for store in stores]
        self.handles = tuple(self._later)

    @override
    def pass_time(self, milliseconds: int) -> None:
        move_times_back(self._client, self._keys, milliseconds)
        for store in self._later:
            store.milliseconds += milliseconds

    @override
    def flush(self) -> None:
        self._client.delete(self._keys.hash, self._keys.lease)

    @override
    def damage(self, field: str) -> None:
        assert self._client.hset(self._keys.hash, field, SPOILT[field]) == 0, f"no field {field} was stored"

    @override
    def close(self) -> None:
        self.flush()
        self._client.close()
        super().close()


class ShiftedStore(Store):
    """A store seen as if its clock, and its times, were this many milliseconds later; 0 is no time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.milliseconds = 0

    def poll(self, ask: Ask) -> Reply:
        """As `Store.poll`."""
        held = ask.held and Order(ask.held.epoch, self._back(ask.held.as_of))
        reply = self._store.poll(ask._replace(last_grant=self._back(ask.last_grant), held=held))
        return reply._replace(
            clock=self._on(reply.clock),
            granted_at=self._on(reply.granted_at),
            grant=reply.grant and Grant(reply.grant.epoch, self._on(reply.grant.as_of), self._on(reply.grant.at)),
            meta=self._meta_on(reply.meta),
        )

    def publish(
        self, me: str, envelope: Envelope, *, fresh: bool, lease: int, replacing: Replacing | None = None
    ) -> Published:
        """As `Store.publish`."""
        meta = _moved(envelope.meta, -self.milliseconds)
        return self._store.publish(me, envelope._replace(meta=meta), fresh=fresh, lease=lease, replacing=replacing)

    def confirm(self, me: str, version: str, grant: Grant, *, lease: int, stamp: str = "") -> bool:
        """As `Store.confirm`."""
        grant = Grant(grant.epoch, self._back(grant.as_of), self._back(grant.at))
        return self._store.confirm(me, version, grant, lease=lease, stamp=stamp)

    def discard(self, me: str, version: str) -> bool:
        """As `Store.discard`."""
        return self._store.discard(me, version)

    def report(self, me: str, version: str, interval: int) -> bool:
        """As `Store.report`."""
        return self._store.report(me, version, interval)

    def fail(
        self, me: str, as_of: int, scope: Scope, *, status: int = 0, retry_after: int = 0, stamp: str = ""
    ) -> bool:
        """As `Store.fail`."""
        return self._store.fail(me, self._back(as_of), scope, status=status, retry_after=retry_after, stamp=stamp)

    def renew(self, me: str, lease: int) -> bool:
        """As `Store.renew`."""
        return self._store.renew(me, lease)

    def release(self, me: str, *, idle: bool) -> bool:
        """As `Store.release`."""
        return self._store.release(me, idle=idle)

    def inspect(self) -> Snapshot:
        """As `Store.inspect`."""
        seen = self._store.inspect()
        clock, granted_at = self._on(seen.clock), self._on(seen.granted_at)
        return seen._replace(clock=clock, granted_at=granted_at, meta=self._meta_on(seen.meta))

    def clear(self, stamp: str = "") -> int:
        """As `Store.clear`."""
        return self._store.clear(stamp)

    def close(self) -> None:
        """As `Store.close`."""
        self._store.close()

    def _on(self, at: int) -> int:
        return at and at + self.milliseconds

    def _back(self, at: int) -> int:
        return at and at - self.milliseconds

    def _meta_on(self, meta: Meta | None) -> Meta | None:
        return meta and _moved(meta, self.milliseconds)


def _moved(meta: Meta, by: int) -> Meta:
    return meta._replace(as_of=meta.as_of + by, changed_at=meta.changed_at + by, confirmed_at=meta.confirmed_at + by)
