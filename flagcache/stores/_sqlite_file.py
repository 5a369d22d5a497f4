"""One SQLite file: made, recognised, opened, and set aside when it is broken.

A new file is made whole under another name and then moved into place: whoever finds a file at the path finds its tables
in it. That, and setting one aside, happens under a lock on the directory, so that one process does it and that a log
which belongs to one file is never read as another's.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from flagcache.errors import StoreError
from flagcache.stores._sqlite_process import Identity, Opened, identify, is_there, this_process

__all__ = ["Schema", "SqliteFile", "Transaction"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_SET_ASIDE = 9
"""How many broken files are kept. A disk that breaks one after the other must not be filled with them."""

_SIDES = ("-wal", "-shm")
"""What SQLite keeps beside a file while it is open: the log and the memory that processes share."""


@dataclass(frozen=True, slots=True)
class Schema:
    """How a file of ours is recognised, and what makes a new one."""

    application: int
    version: int
    tables: tuple[str, ...]


class _WriterNeeded(Exception):  # noqa: N818 - no error: the transaction starts over
    """The transaction that only reads wants to write."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction; ended by `SqliteFile.run`."""

    connection: sqlite3.Connection
    writing: bool

    def write(self) -> None:
        """Make sure that this is a writer's transaction; a reader's is given up and starts over as a writer's."""
        if not self.writing:
            raise _WriterNeeded


class SqliteFile:
    """A connection of its own to one file, one thread at a time. Opened at the first use in each process.

    Args:
        path: of the file; its directory must exist.
        schema: what must be in it.
        timeout: seconds for which one `run` waits for other threads and processes, all in all.
    """

    def __init__(self, path: str, schema: Schema, timeout: float) -> None:
        self.path = path
        self._schema = schema
        self._timeout = timeout
        self._lock = threading.Lock()
        self._opened: Opened | None = None
        self._warned = False

    def run(self, step: Callable[[Transaction], _T]) -> _T:
        """Run `step` in a read transaction; where it asks for a writer, once more in a write transaction.

        Raises:
            StoreError: whatever the trouble is. Nothing was written then.
        """
        until = time.monotonic() + self._timeout
        with self._entered(until):
            try:
                return self._attempt(step, until)
            except sqlite3.DatabaseError as error:
                if not _is_broken(error):
                    raise
                self._replace(until, error)
            return self._attempt(step, until)

    def close(self) -> None:
        """Close this process's connection; the next `run` opens another."""
        with suppress(StoreError), self._entered(time.monotonic() + self._timeout):
            self._close()

    @contextmanager
    def _entered(self, until: float) -> Iterator[None]:
        """Have the file to oneself, among this process's threads, and turn every trouble into a `StoreError`."""
        process = this_process()
        if process.useless:  # before the lock, which a thread that this process does not have may hold
            self._fail("this process was forked while another thread used SQLite; start it anew")
        with process.entered():
            if not self._lock.acquire(timeout=max(0.0, until - time.monotonic())):
                self._fail("another thread of this process has been using it for too long")
            try:
                yield
            except (sqlite3.Error, OSError, UnicodeError, OverflowError) as error:
                if "locked" not in str(error):  # any other trouble may be the connection's own
                    self._close()
                raise StoreError(f"SQLite store {self.path}: {error}") from error
            finally:
                self._lock.release()

    def _attempt(self, step: Callable[[Transaction], _T], until: float) -> _T:
        connection = self._connection(until)
        try:
            return _transact(connection, step, writing=False)
        except _WriterNeeded:
            _wait_until(connection, until)
            return _transact(connection, step, writing=True)

    def _connection(self, until: float) -> sqlite3.Connection:
        opened = self._opened
        if opened is not None and (opened.process is not this_process() or not is_there(self.path, opened.identity)):
            opened = self._opened = None  # a parent's, or of a file that was deleted: neither may be closed
        while opened is None:
            opened = self._open(until)
            self._opened = opened
        return opened.connection

    def _open(self, until: float) -> Opened | None:
        """Open the file, made first where there is none; None when another was put in its place meanwhile."""
        path = os.path.realpath(self.path)
        self._warn_of_directory(path)
        identity = identify(path)
        if identity is None:
            with _alone(path, until):
                _make(path, self._schema)
            return None
        if identity in this_process().lost:
            self._fail("the process that had it open has ended since this one was forked from it; start this one anew")
        connection = _connect(path, until)
        try:
            shared = self._recognise(connection)
            shm = identify(f"{path}-shm") if shared else None
        except BaseException as error:
            _leave(Opened(connection, this_process(), path, identity, None), error)
            raise
        opened = Opened(connection, this_process(), path, identity, shm)
        if not is_there(path, identity):
            return None
        weakref.finalize(self, _close_unused, opened, self._lock)
        return opened

    def _recognise(self, connection: sqlite3.Connection) -> bool:
        """Make sure that the file is ours, and begin to use it. False if it lies where nothing can be written."""
        application, version = (_pragma(connection, name) for name in ("application_id", "user_version"))
        if application != self._schema.application:
            self._fail("this is a database of another program; give another path")
        if version != self._schema.version:
            self._fail(f"it has format {version}, this flagcache knows {self._schema.version}; give another path")
        connection.execute("PRAGMA synchronous=NORMAL")
        if _immutable(self.path):
            return False
        if _pragma(connection, "journal_mode=WAL") != "wal":
            self._fail("its file system allows no write-ahead log; give a path on a local disk")
        return True

    def _replace(self, until: float, error: sqlite3.Error) -> None:
        """Set the broken file aside and make a new one, unless another process has done so."""
        opened, self._opened = self._opened, None
        path = os.path.realpath(self.path)
        with _alone(path, until):
            if opened is not None and not is_there(path, opened.identity):
                return
            aside = _set_aside(path)
            _make(path, self._schema)
        _log.warning("SQLite store %s was broken (%s): set aside as %s, and made anew", self.path, error, aside)

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _warn_of_directory(self, path: str) -> None:
        directory = os.path.dirname(path)
        if not os.path.isdir(directory):
            self._fail(f"the directory {directory} does not exist; make it, with mode 0700")
        if not self._warned and os.stat(directory).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            _log.warning("SQLite store %s: others may write its directory %s; mode 0700 is safer", self.path, directory)
        self._warned = True

    def _fail(self, trouble: str) -> NoReturn:
        raise StoreError(f"SQLite store {self.path}: {trouble}")
