"""A version that isn't text, from another program or a broken disk, counts as nothing stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flagcache.stores.base import Ask, Envelope, Meta, Order, Published
from flagcache.stores.redis.store import RedisStore
from flagcache.stores.sqlite.store import SqliteStore
from tests.stores.every_verb import FleetStore
from tests.support.redis_links import execute
from tests.support.servers import RedisServer

LONG = 60_000
ASK = Ask("leader", LONG, LONG, LONG, LONG)

Spoil = Callable[[bytes], object]


@pytest.fixture(params=["redis", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path, namespace: str) -> tuple[FleetStore, Spoil]:
    """A store of each kind, and what sets its version."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        redis_store = RedisStore(server.url, namespace)
        return redis_store, lambda version: execute(server, "HSET", redis_store.keys.hash, "version", version)
    path = tmp_path / "flags.db"

    def spoil(version: bytes) -> object:
        with closing(sqlite3.connect(path)) as connection, connection:
            [table] = [
                name
                for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                if "version" in {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
                and "as_of" in {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
            ]
            return connection.execute(f"UPDATE {table} SET version = CAST(? AS TEXT)", (version,))

    return SqliteStore(path, namespace), spoil


@pytest.mark.parametrize("version", [b"\xff\xfe", b"v1\xff", b"\xc3"])
def test_a_version_that_is_no_text_heals(place: tuple[FleetStore, Spoil], version: bytes) -> None:
    """A process without definitions sees nothing; a holder restores them."""
    store, spoil = place
    with closing(store):
        grant = store.poll(ASK).grant
        assert grant is not None
        meta = Meta("v1", grant.epoch, grant.as_of, grant.at, grant.at)
        assert store.publish("leader", Envelope(meta, b"some"), fresh=True, lease=LONG) is Published.STORED
        spoil(version)
        newcomer = store.poll(ASK._replace(me="newcomer"))
        assert (newcomer.meta, newcomer.payload) == (None, None)
        assert store.inspect().meta is None
        holder = store.poll(ASK._replace(held=Order(meta.epoch, meta.as_of), held_version="v1", held_age=1))
        assert (holder.unchanged, holder.republish) == (False, True)
        assert store.publish("leader", Envelope(meta, b"some"), fresh=False, lease=LONG) is Published.STORED
        assert store.poll(ASK._replace(me="newcomer")).payload == b"some"
