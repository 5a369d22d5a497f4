"""One connection to a SQLite file, and the ways to open it; one transaction on it."""

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
        """Make sure that this is a writer's transaction; a reader's is rolled back and starts again as a writer's."""
        if not self.writing:
            raise WriterNeeded


def transact(connection: sqlite3.Connection, step: Callable[[Transaction], _T], until: float, *, writing: bool) -> _T:
    """Run `step` in a transaction, which waits for others until this time of the monotonic clock."""
    left = max(0, round((until - monotonic()) * 1000))
    connection.execute(f"PRAGMA busy_timeout={left}")
    connection.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
    try:
        result = step(Transaction(connection, writing))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has already ended it
            connection.execute("ROLLBACK")
        raise
    return result


class Mode(Enum):
    """The ways to open a file; the values are SQLite's: https://sqlite.org/uri.html."""

    WRITE = "mode=rw"
    """SQLite itself falls back to reading if this user may not write."""
    LOG = "mode=ro&readonly_shm=1"
    """With the log of a process that can write the file: each change is seen, and nothing is made or altered."""
    FILE = "immutable=1"
    """Only the file, without a lock and without a log, whose content is not seen."""


class View(NamedTuple):
    """The state of a file when it was opened for reading only; if it has changed, the file is opened again."""

    read_only: bool
    log: Identity | None
    shm: Identity | None
    changed: tuple[int, int] = (0, 0)
    """The file's time of change and its size, which show nothing if there is a log."""

    @staticmethod
    def of(path: Path, *, with_log: bool) -> View:
        """Return the state of the file and of those beside it."""
        log, shm = identify(beside(path, "-wal")), identify(beside(path, "-shm"))
        if with_log:
            return View(is_read_only(path), log, shm)
        found = path.stat()
        return View(is_read_only(path), log, shm, (found.st_mtime_ns, found.st_size))


def modes(path: Path, *, only_look: bool) -> tuple[Mode, ...]:
    """Return the ways to open the file, the best one first.

    Args:
        path: of the file.
        only_look: write nothing, even if that is possible.
    """
    if not only_look and not is_read_only(path):
        return (Mode.WRITE,)
    # A log whose index (`-shm`) is gone cannot be read, because making another one is writing.
    return (Mode.LOG, Mode.FILE) if identify(beside(path, "-wal")) else (Mode.FILE,)


def connect(path: Path, mode: Mode, until: float) -> sqlite3.Connection:
    """Open an existing file."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?{mode.value}",
        uri=True,
        timeout=max(0.0, until - monotonic()),
        isolation_level=None,  # we begin and end transactions ourselves
        check_same_thread=False,
    )
    connection.text_factory = _text
    connection.execute("PRAGMA trusted_schema=OFF")  # a file's schema must not run functions of this process
    return connection


def bears(connection: sqlite3.Connection, application: int) -> bool:
    """Whether the file has this application's mark, even if it is truncated or broken further on.

    SQLite reads it, because opening and closing the file ourselves would release this process's locks on it.
    """
    try:
        connection.execute("PRAGMA writable_schema=ON")  # otherwise a file that is too short is not read at all
        return pragma(connection, "application_id") == application
    except sqlite3.Error:
        return False


def is_read_only(path: Path) -> bool:
    """Whether the whole file system is read-only here; through another mount it may still be written."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _text(raw: bytes) -> str | None:
    """Return text; bytes that are no text give None, and no exception."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def pragma(connection: sqlite3.Connection, name: str) -> object:
    """Read a pragma, or set one: `name=value`."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
