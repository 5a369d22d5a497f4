"""A file that 0.1 made: a newer worker completes it and loses nothing, and 0.1 continues to use it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flagcache.stores.base import Envelope, Meta, Published, Scope
from flagcache.stores.sqlite.store import SqliteStore
from flagcache.stores.sqlite.tables import SCHEMA
from tests.stores.test_sqlite import LONG, ask, read

TABLES = (
    """
    CREATE TABLE state (
        namespace TEXT NOT NULL PRIMARY KEY,
        epoch INTEGER, highest INTEGER,
        version TEXT, as_of INTEGER, changed_at INTEGER, confirmed_at INTEGER, etag TEXT, writer TEXT, project TEXT,
        payload_size INTEGER,
        grant_as_of INTEGER, granted_1 INTEGER, granted_2 INTEGER, granted_3 INTEGER, holder TEXT, outcome TEXT,
        failures INTEGER,
        owner TEXT, lease_until INTEGER, lease_length INTEGER, led_since INTEGER,
        note_status INTEGER, note_until INTEGER, note_length INTEGER,
        repair_asked INTEGER
    ) WITHOUT ROWID
    """,
    "CREATE TABLE payload (namespace TEXT NOT NULL PRIMARY KEY, body BLOB)",
    """
    CREATE TABLE notice (
        namespace TEXT NOT NULL, id INTEGER NOT NULL, kind TEXT, epoch INTEGER, version TEXT,
        PRIMARY KEY (namespace, id)
    ) WITHOUT ROWID
    """,
)
"""As 0.1 makes them."""

NAMESPACE = "1-plain:n"
"""What 0.1 calls the namespace `n` in its tables."""

NOW = 1_700_000_000_000

ROW: dict[str, int | str] = {
    "epoch": 2,
    "highest": NOW,
    "version": "v1",
    "as_of": NOW,
    "changed_at": NOW - 2,
    "confirmed_at": NOW - 1,
    "etag": '"tag"',
    "writer": "posthog-python/7.0.0",
    "project": "team=1",
    "payload_size": 11,
    "grant_as_of": NOW,
    "granted_1": NOW,
    "granted_2": NOW - 30_000,
    "granted_3": NOW - 60_000,
    "holder": "one of 0.1",
    "outcome": "done",
    "failures": 0,
    "owner": "",
    "lease_until": 0,
    "lease_length": 60_000,
    "led_since": NOW - 60_000,
    "note_status": 0,
    "note_until": 0,
    "note_length": 0,
    "repair_asked": 0,
}
"""As 0.1 writes the state of a namespace."""

META = Meta("v1", 2, NOW, NOW - 2, NOW - 1, '"tag"', "posthog-python/7.0.0", "team=1")


class EarlierWorker:
    """A worker of 0.1, which reads and writes the columns that it knows."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def make(self, namespace: str) -> None:
        """Make the file, with definitions in it."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            for statement in TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={SCHEMA.application}")
            connection.execute("PRAGMA user_version=1")
            connection.execute("PRAGMA journal_mode=WAL")
        self._path.chmod(0o600)
        self.write(namespace, b"definitions")

    def write(self, namespace: str, payload: bytes, **changed: int | str) -> None:
        """Store definitions."""
        row = {"namespace": namespace, **ROW, "payload_size": len(payload), **changed}
        columns, places = ", ".join(row), ", ".join(f":{column}" for column in row)
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute(f"REPLACE INTO state ({columns}) VALUES ({places})", row)
            connection.execute("REPLACE INTO payload (namespace, body) VALUES (?, ?)", (namespace, payload))
            connection.execute("INSERT OR REPLACE INTO notice VALUES (?, ?, ?, ?, ?)", (namespace, 1, "new", 2, "v1"))

    def read(self) -> tuple[dict[str, object], bytes]:
        """Return the only state, by the names of its columns, and its payload."""
        with closing(sqlite3.connect(self._path)) as connection:
            cursor = connection.execute("SELECT state.*, body FROM state LEFT JOIN payload USING (namespace)")
            names = [column[0] for column in cursor.description]
            (values,) = cursor.fetchall()
            assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        row: dict[str, object] = dict(zip(names, values, strict=True))
        payload = row.pop("body")
        assert isinstance(payload, bytes)
        return row, payload


@pytest.fixture
def earlier(tmp_path: Path) -> EarlierWorker:
    """It has made the file, which holds v1."""
    made = EarlierWorker(tmp_path / "flags.db")
    made.make(NAMESPACE)
    return made


@pytest.fixture
def store(earlier: EarlierWorker, tmp_path: Path) -> SqliteStore:
    """A newer worker's handle onto it."""
    return SqliteStore(tmp_path / "flags.db", "n")


def test_a_newer_worker_reads_all_that_is_there(store: SqliteStore) -> None:
    """Definitions, times, tag, project, epoch and the record of grants are those that 0.1 wrote; nothing is signed."""
    reply = read(store)
    assert (reply.meta, reply.payload, reply.granted_at) == (META, b"definitions", NOW)
    seen = store.inspect()
    assert (seen.epoch, seen.grant_holder) == (2, "one of 0.1")


def test_it_gains_every_column_and_keeps_its_own(earlier: EarlierWorker, store: SqliteStore) -> None:
    """After the first verb that writes the file has each column of the newer release, and 0.1's values as they were."""
    assert store.poll(ask("new")).leads
    row, payload = earlier.read()
    assert {column.partition(" ")[0] for _, column in SCHEMA.added} <= row.keys()
    kept = ROW.keys() - {"owner", "lease_until", "lease_length", "led_since", "granted_1", "granted_2", "granted_3"}
    kept -= {"grant_as_of", "highest", "holder", "outcome"}  # a fetch was granted
    assert {name: row[name] for name in kept} == {name: ROW[name] for name in kept}
    assert payload == b"definitions"


def test_0_1_takes_what_a_newer_worker_signs(earlier: EarlierWorker, store: SqliteStore) -> None:
    """Each column that 0.1 reads holds what it expects, beside stamps that it does not know."""
    grant = store.poll(ask("new")).grant
    assert grant is not None
    meta = Meta("v2", grant.epoch, grant.as_of, grant.at, grant.at, '"2"', "writer", "team=1", "stamp")
    assert store.publish("new", Envelope(meta, b"new definitions"), fresh=True, lease=LONG) is Published.STORED
    row, payload = earlier.read()
    assert (row["version"], row["as_of"], row["confirmed_at"], row["epoch"]) == ("v2", grant.as_of, grant.at, 2)
    assert (row["payload_size"], payload) == (len(payload), b"new definitions")
    assert (row["etag"], row["project"], row["stamp"]) == ('"2"', "team=1", "stamp")
    assert all(isinstance(row[name], type(value)) for name, value in ROW.items())


def test_what_0_1_writes_then_has_no_stamp_of_before(
    earlier: EarlierWorker, store: SqliteStore, tmp_path: Path
) -> None:
    """0.1 replaces the row: its definitions are read, and no stamp of the replaced ones counts for them."""
    grant = store.poll(ask("new")).grant
    assert grant is not None
    meta = Meta("v2", grant.epoch, grant.as_of, grant.at, grant.at, stamp="of v2")
    assert store.publish("new", Envelope(meta, b"new"), fresh=True, lease=LONG) is Published.STORED
    assert store.fail("new", grant.as_of, Scope.EVERYBODY, status=402, retry_after=LONG, stamp="of the note")
    later = grant.as_of + 1
    earlier.write(NAMESPACE, b"of 0.1", version="v3", as_of=later, highest=later, grant_as_of=later)
    for handle in (store, SqliteStore(tmp_path / "flags.db", "n")):
        reply = read(handle)
        assert reply.meta == META._replace(version="v3", as_of=later)
        assert (reply.payload, reply.backoff_stamp, reply.backoff_status) == (b"of 0.1", "", 0)
