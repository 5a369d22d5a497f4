"""One connection to a SQLite file: how it is opened, and one transaction on it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import NamedTuple, TypeVar

from flagcache.runtime.clock import monotonic
from flagcache.stores.sqlite.fork_safety import Identity, beside, identify

__all__ = ["Mode", "Transaction", "View", "WriterNeeded", "bears", "connect", "modes", "pragma", "transact"]

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


class Mode(Enum):
    """How a file is opened; the values are SQLite's: https://sqlite.org/uri.html."""

    WRITE = "mode=rw"
    """SQLite itself falls back to reading if this user may not write."""
    LOG = "mode=ro&readonly_shm=1"
    """With the log of who writes where it can be written: each change is seen, and nothing is made or altered."""
    FILE = "immutable=1"
    """The file alone, without a lock and without a log: what is in a log is not seen."""


class View(NamedTuple):
    """What a file looked like when it was opened for reading alone; if it looks otherwise, it is opened anew."""

    read_only: bool
    log: Identity | None
    shm: Identity | None
    changed: tuple[int, int] = (0, 0)
    """Of the file itself: when it was last changed, and its size. With a log that tells nothing."""

    @staticmethod
    def of(path: Path, *, with_log: bool) -> View:
        """Look at the file and what lies beside it."""
        log, shm = identify(beside(path, "-wal")), identify(beside(path, "-shm"))
        if with_log:
            return View(is_read_only(path), log, shm)
        found = path.stat()
        return View(is_read_only(path), log, shm, (found.st_mtime_ns, found.st_size))


def modes(path: Path, *, only_look: bool) -> tuple[Mode, ...]:
    """How to open the file, the best way first.

    Args:
        path: of the file.
        only_look: nothing may be written, though perhaps it could be.
    """
    if not only_look and not is_read_only(path):
        return (Mode.WRITE,)
    # A log whose index (`-shm`) is gone cannot be read: to make another is to write.
    return (Mode.LOG, Mode.FILE) if identify(beside(path, "-wal")) else (Mode.FILE,)


def connect(path: Path, mode: Mode, until: float) -> sqlite3.Connection:
    """Open an existing file."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?{mode.value}",
        uri=True,
        timeout=max(0.0, until - monotonic()),
        isolation_level=None,  # transactions are ours to begin and end
        check_same_thread=False,
    )
    connection.text_factory = _text
    connection.execute("PRAGMA trusted_schema=OFF")  # a file's schema must not run functions of this process
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


def is_read_only(path: Path) -> bool:
    """Whether the whole file system is read-only here; by another mount it may be written all the same."""
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
