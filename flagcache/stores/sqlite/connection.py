"""One connection to a SQLite file: how it is opened, and one transaction on it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from flagcache.runtime.clock import monotonic

__all__ = ["Transaction", "WriterNeeded", "bears", "connect", "is_immutable", "pragma", "transact"]

_T = TypeVar("_T")


class WriterNeeded(Exception):  # noqa: N818 - no error: the transaction starts over
    """The transaction that only reads wants to write."""


class Transaction(NamedTuple):
    """One transaction; ended by `SqliteFile.run`."""

    connection: sqlite3.Connection
    writing: bool

    def write(self) -> None:
        """Make sure that this is a writer's transaction; a reader's is given up and starts over as a writer's."""
        if not self.writing:
            raise WriterNeeded


def transact(connection: sqlite3.Connection, step: Callable[[Transaction], _T], until: float, *, writing: bool) -> _T:
    """Run `step` in a transaction, which waits for others until that moment of the monotonic clock."""
    left = max(0, round((until - monotonic()) * 1000))
    connection.execute(f"PRAGMA busy_timeout={left}")
    connection.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
    try:
        result = step(Transaction(connection, writing))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise
    return result


def connect(path: Path, until: float) -> sqlite3.Connection:
    """Open an existing file; SQLite itself falls back to reading where it may not write."""
    mode = "immutable=1" if is_immutable(path) else "mode=rw"
    connection = sqlite3.connect(
        f"{path.as_uri()}?{mode}",
        uri=True,
        timeout=max(0.0, until - monotonic()),
        isolation_level=None,  # transactions are ours to begin and end
        check_same_thread=False,
    )
    connection.text_factory = _text
    return connection


def bears(connection: sqlite3.Connection, application: int) -> bool:
    """Whether the file bears the mark of this application, even if it is truncated or broken further on.

    Asked by SQLite: to open and close the file ourselves would give up the locks that this process has on it.
    """
    try:
        connection.execute("PRAGMA writable_schema=ON")  # else a file that is too short is not read at all
        return pragma(connection, "application_id") == application
    except sqlite3.Error:
        return False


def is_immutable(path: Path) -> bool:
    """Whether the whole file system is read-only: only there may SQLite read without a lock and without a log."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _text(raw: bytes) -> str | None:
    """What is not text comes out as nothing, and not as an exception."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def pragma(connection: sqlite3.Connection, name: str) -> object:
    """Read a pragma, or set one: `name=value`."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
