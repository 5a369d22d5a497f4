"""The tables of a SQLite store: the columns, and checks of their content.

A column with invalid content counts as empty and raises nothing. Without one of the definitions' columns, or with a
payload of another length than was written, no definitions are stored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from flagcache.runtime.text import printable
from flagcache.stores.base import LARGEST_PAYLOAD, Meta, Notice
from flagcache.stores.rules.fields import is_stamp, is_tag, is_text, is_version
from flagcache.stores.rules.state import Outcome, State
from flagcache.stores.sqlite.create import Schema

__all__ = [
    "BACKLOG",
    "SCHEMA",
    "Row",
    "Stored",
    "add_notice",
    "forget",
    "last_notice",
    "load",
    "load_payload",
    "notices_since",
    "save",
    "save_payload",
]

BACKLOG = 64
"""Notices kept for subscribers, of each namespace."""

SCHEMA = Schema(
    application=0x666C6763,  # "flgc"
    version=1,
    tables=(
        """
        CREATE TABLE state (
            namespace TEXT NOT NULL PRIMARY KEY,
            epoch INTEGER, highest INTEGER,
            version TEXT, as_of INTEGER, changed_at INTEGER, confirmed_at INTEGER, etag TEXT, writer TEXT, project TEXT,
            payload_size INTEGER,
            grant_as_of INTEGER, granted_1 INTEGER, granted_2 INTEGER, granted_3 INTEGER, holder TEXT, outcome TEXT,
            failures INTEGER, reporting INTEGER, renewing INTEGER, fence INTEGER,
            owner TEXT, lease_until INTEGER, lease_length INTEGER, led_since INTEGER,
            note_status INTEGER, note_until INTEGER, note_length INTEGER,
            repair_asked INTEGER, deputy TEXT, deputy_seen INTEGER, replaced_at INTEGER, key_missed_at INTEGER,
            stamp TEXT, note_stamp TEXT, epoch_stamp TEXT
        ) WITHOUT ROWID
        """,
        # Its own table, with row ids, so that the payload's length is known without reading it.
        "CREATE TABLE payload (namespace TEXT NOT NULL PRIMARY KEY, body BLOB)",
        """
        CREATE TABLE notice (
            namespace TEXT NOT NULL, id INTEGER NOT NULL, kind TEXT, epoch INTEGER, version TEXT,
            PRIMARY KEY (namespace, id)
        ) WITHOUT ROWID
        """,
    ),
    added=(
        ("state", "reporting INTEGER"),
        ("state", "fence INTEGER"),
        ("state", "deputy TEXT"),
        ("state", "deputy_seen INTEGER"),
        ("state", "renewing INTEGER"),
        ("state", "replaced_at INTEGER"),
        ("state", "key_missed_at INTEGER"),
        ("state", "stamp TEXT"),
        ("state", "note_stamp TEXT"),
        ("state", "epoch_stamp TEXT"),
    ),
)

_LOAD = """
    SELECT state.*, typeof(body) AS body_type, length(body) AS body_size
    FROM state LEFT JOIN payload USING (namespace) WHERE namespace = ?
"""

_ADDED = {column.partition(" ")[0]: None for _, column in SCHEMA.added}
"""The columns that a file of an earlier release lacks; for a file that can only be read."""

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}

_LARGEST = 2**53
"""From here on not all readers and writers have the same number."""


class Stored(NamedTuple):
    """One namespace's state, and the length of its payload."""

    state: State = State()
    payload_size: int = 0
    oversized: bool = False
    """The payload is too large for any worker to have published; the state then has no definitions."""


class Row(NamedTuple):
    """A row as it was read, and what it means."""

    columns: object = ()
    """`sqlite3.Cursor.description`: a file of an earlier release has them in another order."""
    values: tuple[object, ...] | None = None
    """None: there is no row."""
    stored: Stored = Stored()


def load(connection: sqlite3.Connection, namespace: str, last: Row) -> Row:
    """Read the state, and only the length of the payload; return `last` if the row is still the same.

    Most polls find the row unchanged, and to check all its columns takes longer than to read them.
    """
    cursor = connection.execute(_LOAD, (namespace,))
    values: tuple[object, ...] | None = cursor.fetchone()
    if values == last.values and cursor.description == last.columns:
        return last
    if values is None:
        return Row(cursor.description)
    return Row(cursor.description, values, _checked([column[0] for column in cursor.description], values))


def _checked(columns: list[str], values: tuple[object, ...]) -> Stored:
    """Return what a row means."""
    row: dict[str, object] = {**_ADDED, **dict(zip(columns, values, strict=True))}
    try:
        size = _number(row["payload_size"])
        oversized = (_number(row["body_size"]) or 0) > LARGEST_PAYLOAD
        sound = row["body_type"] == "blob" and row["body_size"] == size and not oversized
        meta = _meta(row) if sound else None
        return Stored(_state(row, meta), size if size is not None and meta is not None else 0, oversized)
    except KeyError as exc:
        raise sqlite3.DatabaseError(f"no such column: {exc}") from None


def save(connection: sqlite3.Connection, namespace: str, stored: Stored) -> None:
    """Write the state; if it has no definitions, delete the payload."""
    state, meta = stored.state, stored.state.meta
    values: dict[str, int | str] = {
        "namespace": namespace,
        "epoch": state.epoch,
        "epoch_stamp": state.epoch_stamp,
        "highest": state.highest,
        "payload_size": stored.payload_size,
        "grant_as_of": state.grant,
        "granted_1": state.granted[0],
        "granted_2": state.granted[1],
        "granted_3": state.granted[2],
        "holder": state.holder,
        "outcome": state.outcome.value,
        "failures": state.failures,
        "reporting": state.reporting,
        "renewing": state.renewing,
        "fence": state.fence,
        "owner": state.owner,
        "lease_until": state.lease_until,
        "lease_length": state.lease_length,
        "led_since": state.led_since,
        "note_status": state.backoff_status,
        "note_until": state.backoff_until,
        "note_length": state.backoff_length,
        "note_stamp": state.backoff_stamp,
        "repair_asked": state.repair_asked,
        "replaced_at": state.replaced_at,
        "key_missed_at": state.key_missed_at,
        "deputy": state.deputy,
        "deputy_seen": state.deputy_seen,
    }
    if meta is None:
        connection.execute("DELETE FROM payload WHERE namespace = ?", (namespace,))
    else:
        values |= {
            "version": meta.version,
            "as_of": meta.as_of,
            "changed_at": meta.changed_at,
            "confirmed_at": meta.confirmed_at,
            "etag": meta.etag,
            "writer": meta.writer,
            "project": meta.project,
            "stamp": meta.stamp,
        }
    columns, places = ", ".join(values), ", ".join(f":{column}" for column in values)
    connection.execute(f"REPLACE INTO state ({columns}) VALUES ({places})", values)  # noqa: S608 - names from above


def load_payload(connection: sqlite3.Connection, namespace: str) -> bytes:
    """Read the payload; only after `load` has found it in the same transaction."""
    row: tuple[bytes] = connection.execute("SELECT body FROM payload WHERE namespace = ?", (namespace,)).fetchone()
    return row[0]


def save_payload(connection: sqlite3.Connection, namespace: str, payload: bytes) -> None:
    """Write the payload."""
    connection.execute("REPLACE INTO payload (namespace, body) VALUES (?, ?)", (namespace, payload))


def add_notice(connection: sqlite3.Connection, namespace: str, notice: Notice) -> None:
    """Add a notice for all subscribers, and delete those older than the backlog."""
    number = last_notice(connection, namespace) + 1
    connection.execute("INSERT INTO notice VALUES (?, ?, ?, ?, ?)", (namespace, number, *notice))
    connection.execute("DELETE FROM notice WHERE namespace = ? AND id <= ?", (namespace, number - BACKLOG))


def last_notice(connection: sqlite3.Connection, namespace: str) -> int:
    """Return the number of the latest notice; 0 if there was none yet."""
    row: tuple[int | None] = connection.execute(
        "SELECT max(id) FROM notice WHERE namespace = ?", (namespace,)
    ).fetchone()
    return row[0] or 0


def notices_since(connection: sqlite3.Connection, namespace: str, number: int) -> list[tuple[int, Notice]]:
    """Return the notice of this number, if it still exists, and all later ones, each with its number."""
    rows: list[tuple[int, object, object, object]] = connection.execute(
        "SELECT id, kind, epoch, version FROM notice WHERE namespace = ? AND id >= ? ORDER BY id", (namespace, number)
    ).fetchall()
    return [
        (found, Notice(_word(kind) or "new", _number(epoch) or 0, _word(version)))
        for found, kind, epoch, version in rows
    ]


def forget(connection: sqlite3.Connection, namespace: str) -> bool:
    """Delete everything of a namespace; return whether there was anything."""
    deleted = 0
    for table in ("state", "payload", "notice"):
        query = f"DELETE FROM {table} WHERE namespace = ?"  # noqa: S608 - names from here
        deleted += connection.execute(query, (namespace,)).rowcount
    return deleted > 0


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < _LARGEST else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _word(value: object) -> str:
    text = _text(value) or ""
    return printable(text) if is_text(text) else ""


def _stamp(value: object) -> str:
    text = _text(value) or ""
    return text if is_stamp(text) else ""


def _meta(row: Mapping[str, object]) -> Meta | None:
    version = _text(row["version"])
    epoch, as_of = _number(row["epoch"]), _number(row["as_of"])
    changed_at, confirmed_at = _number(row["changed_at"]), _number(row["confirmed_at"])
    etag, writer, project = _text(row["etag"]), _text(row["writer"]), _text(row["project"])
    if version is None or epoch is None or as_of is None or changed_at is None or confirmed_at is None:
        return None
    if etag is None or writer is None or project is None:
        return None
    if not (is_version(version) and is_tag(etag) and is_text(writer) and is_text(project)):
        return None
    stamp = _stamp(row["stamp"])
    return Meta(version, epoch, as_of, changed_at, confirmed_at, etag, printable(writer), printable(project), stamp)


def _state(row: Mapping[str, object], meta: Meta | None) -> State:
    def number(column: str) -> int:
        return _number(row[column]) or 0

    def text(column: str) -> str:
        return _word(row[column])

    return State(
        meta=meta,
        epoch=number("epoch"),
        epoch_stamp=_stamp(row["epoch_stamp"]),
        highest=max(number("highest"), number("grant_as_of"), meta.as_of if meta else 0),
        grant=number("grant_as_of"),
        granted=(number("granted_1"), number("granted_2"), number("granted_3")),
        holder=text("holder"),
        outcome=_OUTCOMES.get(text("outcome"), Outcome.DONE),
        failures=number("failures"),
        reporting=number("reporting"),
        renewing=number("renewing"),
        fence=number("fence"),
        owner=text("owner"),
        lease_until=number("lease_until"),
        lease_length=number("lease_length"),
        led_since=number("led_since"),
        backoff_status=number("note_status"),
        backoff_until=number("note_until"),
        backoff_length=number("note_length"),
        backoff_stamp=_stamp(row["note_stamp"]),
        repair_asked=number("repair_asked"),
        replaced_at=number("replaced_at"),
        key_missed_at=number("key_missed_at"),
        deputy=text("deputy"),
        deputy_seen=number("deputy_seen"),
    )
