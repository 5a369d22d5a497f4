"""A reader of a SQLite file that it could write: it opens the file for reading only, and changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache import SqliteFlagDefinitionCache
from flagcache.errors import StoreError
from flagcache.events import ColdStartExpired, Event, PayloadRefused
from flagcache.stores.base import Ask, Envelope, Meta, Order, Published, Reply
from flagcache.stores.sqlite.reader import SqliteReaderStore
from flagcache.stores.sqlite.store import SqliteStore
from flagcache_posthog.testing import make_definitions
from tests.support.servers import until

NAMESPACE = "my-team"
LONG = 60_000
ASK = Ask("me", LONG, LONG, LONG, LONG)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file."""
    return tmp_path / "flags.db"


@pytest.fixture
def reader(path: Path) -> Iterator[SqliteReaderStore]:
    """Open the store of a reader."""
    with closing(SqliteReaderStore(path, NAMESPACE)) as store:
        yield store


def publish(path: Path, version: str) -> SqliteStore:
    """Have a worker store a version; it is still there."""
    store = SqliteStore(path, NAMESPACE)
    seen = store.inspect()
    at = max(seen.clock, seen.meta.as_of + 1 if seen.meta else 0)
    content = Envelope(Meta(version, 0, at, at, at), version.encode())
    assert store.publish("worker", content, fresh=False, lease=LONG) is Published.STORED
    return store


def contents(path: Path) -> dict[str, bytes]:
    """Return all files beside it, except the index of the log, in which SQLite counts its readers."""
    return {file.name: file.read_bytes() for file in sorted(path.parent.iterdir()) if not file.name.endswith("-shm")}


def poll(store: SqliteReaderStore) -> Reply:
    """Ask as a process that holds nothing, and would lead."""
    return store.poll(ASK)


def test_no_file_is_made(path: Path, reader: SqliteReaderStore) -> None:
    """Without a file nothing is stored; the first definitions are read once a worker has made it."""
    for _ in range(3):
        reply = poll(reader)
        assert (reply.meta, reply.leads, reply.grant) == (None, False, None)
    assert not list(path.parent.iterdir())
    worker = publish(path, "v1")
    assert poll(reader).payload == b"v1"
    worker.close()


def test_a_missing_directory_is_trouble(tmp_path: Path) -> None:
    """A mistake in the path is not an empty store."""
    with closing(SqliteReaderStore(tmp_path / "none" / "flags.db", NAMESPACE)) as store, pytest.raises(StoreError):
        poll(store)


@pytest.mark.parametrize("lives", [True, False])
def test_each_change_is_read_and_nothing_is_written(path: Path, reader: SqliteReaderStore, *, lives: bool) -> None:
    """Nothing changes, whether the writer still runs or not, and whatever a worker would write at such a poll."""
    for version in ("v1", "v2", "v3"):
        worker = publish(path, version)
        if not lives:
            worker.close()
        before = contents(path)
        assert poll(reader).payload == version.encode()
        assert reader.poll(ASK._replace(held=Order(1, LONG), held_version="newer")).republish is False
        assert reader.publish("me", Envelope(Meta("v9", 9, 1, 1, 1), b"x"), fresh=False, lease=1) is Published.UNSETTLED
        assert reader.discard("me", version) is reader.report("me", version, 1) is False
        assert contents(path) == before
        worker.close()


def test_verbs_that_write_are_refused(path: Path, reader: SqliteReaderStore) -> None:
    """SQLite itself keeps them from writing."""
    publish(path, "v1").close()
    for refused in (reader.clear, reader.forget):
        with pytest.raises(StoreError, match="readonly"):
            refused()
    assert poll(reader).payload == b"v1"


def test_a_broken_file_is_left_as_it_is(path: Path) -> None:
    """A worker may set it aside; a reader reports that it cannot be read."""
    publish(path, "v1").close()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"garbage" * 2000)
    before = contents(path)
    with closing(SqliteReaderStore(path, NAMESPACE)) as store, pytest.raises(StoreError):
        poll(store)
    assert contents(path) == before


def test_starts_of_a_reader_leave_what_cannot_be_read(path: Path) -> None:
    """Forty caches of a reader find a broken payload, report it, and change nothing."""
    worker = SqliteFlagDefinitionCache(path, NAMESPACE, auto_attach=False)
    assert worker.should_fetch_flag_definitions()
    worker.on_flag_definitions_received(cast("FlagDefinitionCacheData", make_definitions(3)))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE payload SET body = zeroblob(length(body))")
    before, events = contents(path), list[Event]()
    for _ in range(40):
        reader = SqliteFlagDefinitionCache(
            path, NAMESPACE, role="reader", auto_attach=False, on_event=events.append, cold_start_wait=0
        )
        assert reader.should_fetch_flag_definitions() is False
        reader.shutdown()
    assert contents(path) == before
    assert {type(event) for event in events} == {PayloadRefused}
    worker.shutdown()


def test_a_reader_that_starts_first_has_the_first_definitions(path: Path) -> None:
    """Its only event is that it has none yet, until the worker's file is there."""
    events: list[Event] = []
    reader = SqliteFlagDefinitionCache(path, NAMESPACE, role="reader", auto_attach=False, on_event=events.append)
    assert reader.should_fetch_flag_definitions() is False
    reader.get_flag_definitions()
    assert [type(event) for event in events] == [ColdStartExpired]
    assert not path.exists()
    worker = SqliteFlagDefinitionCache(path, NAMESPACE, auto_attach=False)
    assert worker.should_fetch_flag_definitions()
    worker.on_flag_definitions_received(cast("FlagDefinitionCacheData", make_definitions(3)))
    assert reader.should_fetch_flag_definitions() is False
    assert until(reader.get_flag_definitions, what="definitions") == make_definitions(3)
    reader.shutdown()
    worker.shutdown()
