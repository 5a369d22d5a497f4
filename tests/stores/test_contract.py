# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""Every store in the package keeps the contract."""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest
import redis
from typing_extensions import override

from flagcache.stores.base import Store
from flagcache.stores.memory import MemoryStore
from flagcache.stores.redis.store import RedisStore, keys_of
from flagcache.stores.sqlite.store import SqliteStore, name_of
from flagcache.testing import (
    ClockContract,
    Damage,
    DamageContract,
    MakeStore,
    PassTime,
    ProcessContract,
    StoreContract,
    SubscriptionContract,
)
from flagcache.testing._store.cases import Worker
from tests.support.servers import RedisServer


class Clock:
    """A store's clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = time.time_ns() // 1_000_000

    def __call__(self) -> int:
        """Milliseconds since 1970."""
        return self.now

    def move(self, milliseconds: int) -> None:
        """Step, back too."""
        self.now += milliseconds


@pytest.fixture
def clock() -> Clock:
    """The clock of all stores of one test."""
    return Clock()


class TestMemoryStore(StoreContract, SubscriptionContract, ClockContract):
    """In memory, all handles of a namespace are one."""

    @pytest.fixture
    def make_store(self, clock: Clock) -> MakeStore:
        """One store a namespace."""
        stores: defaultdict[str, MemoryStore] = defaultdict(lambda: MemoryStore(clock))
        return stores.__getitem__

    @pytest.fixture
    def pass_time(self, clock: Clock) -> PassTime:
        """Move the clock."""
        return clock.move


class TestSqliteStore(StoreContract, SubscriptionContract, ClockContract, ProcessContract, DamageContract):
    """In a file, each handle has its own connections."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """The file."""
        return tmp_path / "flags.db"

    @pytest.fixture
    def make_store(self, path: Path, clock: Clock) -> MakeStore:
        """Several handles onto one file."""
        return lambda namespace: SqliteStore(path, namespace, timeout=20.0, clock=clock)

    @pytest.fixture
    def pass_time(self, clock: Clock) -> PassTime:
        """Move the clock."""
        return clock.move

    @pytest.fixture
    def damage(self, path: Path) -> Damage:
        """Change rows."""
        return SqliteDamage(path)


class TestRedisStore(StoreContract, SubscriptionContract, ProcessContract, DamageContract):
    """On each server, each handle has its own connections."""

    @pytest.fixture
    def make_store(self, redis_server_any: RedisServer) -> MakeStore:
        """Several handles onto one server."""
        return lambda namespace: RedisStore(redis_server_any.url, namespace, timeout=10.0)

    @pytest.fixture
    def damage(self, redis_server_any: RedisServer) -> Damage:
        """Change keys."""
        return RedisDamage(redis_server_any.client())

    @pytest.mark.parametrize("command", ["SET", "RPUSH", "SADD", "PFADD"])
    def test_foreign_keys_under_our_names_are_replaced(
        self, store: Store, other: Store, redis_server_any: RedisServer, namespace: str, command: str
    ) -> None:
        """Whatever the type of a key in the hash's or the lease's place, the store begins again."""
        client = redis_server_any.client()
        for name in keys_of(namespace, 0)[:2]:
            client.delete(*keys_of(namespace, 0)[:2])
            Worker(store, "a").bring("v1")
            client.delete(name)
            client.execute_command(command, name, b"garbage")
            assert store.inspect().leader == ""
            assert Worker(other, "b").poll().leads
            assert store.inspect().leader == "b"


class SqliteDamage(Damage):
    """Spoils rows of a SQLite store."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @override
    def payload(self, namespace: str, payload: bytes | None) -> None:
        if payload is None:
            self._execute("DELETE FROM payload WHERE namespace = ?", name_of(namespace))
        else:
            self._execute("UPDATE payload SET body = ? WHERE namespace = ?", payload, name_of(namespace))

    @override
    def number(self, namespace: str, field: str, value: str) -> None:
        self._execute(f"UPDATE state SET {field} = ? WHERE namespace = ?", value, name_of(namespace))

    @override
    def text(self, namespace: str, field: str, value: str) -> None:
        self.number(namespace, field, value)

    @override
    def everything(self, namespace: str) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            names = [row[1] for row in connection.execute("PRAGMA table_info(state)") if row[1] != "namespace"]
            spoilt = ", ".join(f"{name} = x'00ff'" for name in names)
            connection.execute(f"UPDATE state SET {spoilt} WHERE namespace = ?", (name_of(namespace),))
            connection.execute("UPDATE payload SET body = 'text' WHERE namespace = ?", (name_of(namespace),))

    def _execute(self, statement: str, *values: str | bytes) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            assert connection.execute(statement, values).rowcount == 1


class RedisDamage(Damage):
    """Spoils keys of a Redis store."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    @override
    def payload(self, namespace: str, payload: bytes | None) -> None:
        name = keys_of(namespace, 0).hash
        assert self._client.hexists(name, "payload")
        if payload is None:
            self._client.hdel(name, "payload")
        else:
            self._client.hset(name, "payload", payload)

    @override
    def number(self, namespace: str, field: str, value: str) -> None:
        name = keys_of(namespace, 0).hash
        assert self._client.hexists(name, field)
        self._client.hset(name, field, value)

    @override
    def text(self, namespace: str, field: str, value: str) -> None:
        self._client.hset(keys_of(namespace, 0).hash, field, value)

    @override
    def everything(self, namespace: str) -> None:
        for name in keys_of(namespace, 0)[:2]:
            self._client.delete(name)
            self._client.rpush(name, b"\x00", "garbage")
