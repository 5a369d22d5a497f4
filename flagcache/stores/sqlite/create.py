"""How a SQLite file comes into being, and how a broken one goes.

A new file is made whole under another name and then moved into place: whoever finds a file at the path finds its tables
in it. That, and setting one aside, happens under a lock on the directory, so that one process does it and that a log
which belongs to one file is never read as another's.
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
"""How many broken files are kept. A disk that breaks one after the other must not be filled with them."""


class Schema(NamedTuple):
    """How a file of ours is recognised, and what makes a new one."""

    application: int
    version: int
    tables: tuple[str, ...]
    added: tuple[tuple[str, str], ...] = ()
    """Table and column of what a file of an earlier release lacks. That release goes on with the columns it knows."""


def complete(connection: sqlite3.Connection, schema: Schema) -> None:
    """Add the columns that a file of an earlier release lacks."""
    for table, column in schema.added:
        name = column.partition(" ")[0]
        if name in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}:
            continue
        with suppress(sqlite3.OperationalError):  # another process was quicker, or nothing can be written there
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")


def make(path: Path, schema: Schema) -> None:
    """Put a new file in place, unless there is one. Only for who is alone in the directory."""
    if identify(path) is not None:
        return
    fresh = beside(path, ".new")
    for leftover in (beside(path, "-wal"), beside(path, "-shm"), fresh, beside(fresh, "-journal")):
        leftover.unlink(missing_ok=True)  # a log without its file would be read as the new one's
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # whatever the umask
    finally:
        os.close(descriptor)
    try:
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute("PRAGMA synchronous=OFF")  # what a power cut leaves of it is set aside
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
    """Move a broken file and its log to another name. Only for who is alone in the directory."""
    names = [beside(path, f".corrupt-{number}") for number in range(1, _SET_ASIDE + 1)]
    aside = next((name for name in names if not name.exists()), names[-1])
    path.rename(aside)  # first: nobody who comes now opens the old file with a new log, or none
    log = beside(aside, "-wal")
    log.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        beside(path, "-wal").rename(log)
    beside(path, "-shm").unlink(missing_ok=True)
    return aside


@contextmanager
def alone(path: Path, until: float) -> Generator[None]:
    """Keep other processes from making or moving files in the same directory."""
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
        fcntl.flock(directory, fcntl.LOCK_UN)  # also for a child that was forked meanwhile
    finally:
        os.close(directory)
