"""Creates SQLite files, and sets broken ones aside.

A new file is made completely under another name and then moved into place, so a file at the path always has its tables.
That, and setting a file aside, happens under a lock on the directory, so that one process does it and the log of one
file is never read as another's.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from flagcache.runtime.clock import monotonic
from flagcache.stores.sqlite.fork_safety import beside, identify

__all__ = ["Schema", "alone", "complete", "make", "set_aside"]

_SET_ASIDE = 9
"""The number of broken files that are kept, so that a disk that breaks many files isn't filled with them."""


class Schema(NamedTuple):
    """The marks of our files, and the statements that make a new one."""

    application: int
    version: int
    tables: tuple[str, ...]
    added: tuple[tuple[str, str], ...] = ()
    """Tables and columns that a file of an earlier release lacks. That release still uses the columns that it knows."""


def complete(connection: sqlite3.Connection, schema: Schema) -> None:
    """Add the columns that a file of an earlier release lacks."""
    for table, column in schema.added:
        name = column.partition(" ")[0]
        if name in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}:
            continue
        with suppress(sqlite3.OperationalError):  # another process was faster, or nothing can be written there
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")


def make(path: Path, schema: Schema) -> None:
    """Put a new file in place, unless there is one. Call it only inside `alone`."""
    if identify(path) is not None:
        return
    fresh = beside(path, ".new")
    for leftover in (beside(path, "-wal"), beside(path, "-shm"), fresh, beside(fresh, "-journal")):
        leftover.unlink(missing_ok=True)  # a log without its file would be read as the new file's
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # whatever the umask
    finally:
        os.close(descriptor)
    try:
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute("PRAGMA synchronous=OFF")  # after a power cut the rest of it is set aside
            connection.execute("BEGIN")
            for statement in schema.tables:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={schema.application}")
            connection.execute(f"PRAGMA user_version={schema.version}")
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode=WAL")
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def set_aside(path: Path) -> Path:
    """Move a broken file and its log to another name. Call it only inside `alone`."""
    names = [beside(path, f".corrupt-{number}") for number in range(1, _SET_ASIDE + 1)]
    aside = next((name for name in names if not name.exists()), names[-1])
    path.rename(aside)  # first, so that no process opens the old file with a new log, or without one
    log = beside(aside, "-wal")
    log.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        beside(path, "-wal").rename(log)
    beside(path, "-shm").unlink(missing_ok=True)
    return aside


@contextmanager
def alone(path: Path, until: float) -> Generator[None]:
    """Keep other processes from making or moving files in the same directory inside the `with` block."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() > until:
                    raise TimeoutError("another process keeps its directory locked") from None
                time.sleep(0.005)
        yield
        fcntl.flock(directory, fcntl.LOCK_UN)  # also in a child that was forked meanwhile
    finally:
        os.close(directory)
