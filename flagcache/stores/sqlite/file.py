"""One SQLite file and this process's connection to it: opened, recognised, used, and left when it is replaced."""

from __future__ import annotations

import logging
import sqlite3
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from flagcache.errors import StoreError
from flagcache.runtime.callers import waits_until
from flagcache.runtime.clock import monotonic
from flagcache.runtime.log_prefix import prefix
from flagcache.stores.sqlite.connection import (
    Mode,
    Transaction,
    View,
    WriterNeeded,
    bears,
    connect,
    modes,
    pragma,
    transact,
)
from flagcache.stores.sqlite.create import Schema, alone, complete, make, set_aside
from flagcache.stores.sqlite.fork_safety import Identity, Opened, beside, identify, is_there, this_process
from flagcache.stores.sqlite.place import check_directory, resolved
from flagcache.stores.sqlite.store_errors import is_broken, kind_of, words_of

__all__ = ["SqliteFile", "Transaction"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_TRIES = 5
"""The number of times that another process may replace the file while this one opens it."""

_LEAST = 0.1
"""The part of the timeout that a `run` may wait if its caller's time is over; others mostly write for milliseconds."""


class SqliteFile:
    """One connection to one file, used by one thread at a time. Opened at the first use in each process.

    Args:
        path: of the file; its directory must exist.
        schema: what it must contain.
        timeout: seconds for which one `run` waits for other threads and processes in total; less if the caller has less
            time (`flagcache.runtime.callers.within`).
        replace_foreign: only we use the name, so a file of another program is set aside like a broken one.
        only_look: change nothing, whatever is found: make no file, set none aside, write nothing beside it.
        guard: called with the path before each time that the file is opened or made; may raise `StoreError`.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        timeout: float,
        *,
        replace_foreign: bool = False,
        only_look: bool = False,
        guard: Callable[[Path], None] | None = None,
    ) -> None:
        self._guard = guard
        self.path = path
        self._schema = schema
        self._timeout = timeout
        self._replace_foreign = replace_foreign
        self._only_look = only_look
        self._lock = threading.Lock()
        self._opened: Opened | None = None
        self._closer: weakref.finalize[..., SqliteFile] | None = None
        self._found: Identity | None = None
        self._view: View | None = None
        """The file's state when it was opened, if it can only be read."""
        self._ours = replace_foreign
        """Whether the file is known to be ours, so that it may be set aside if it is broken."""

    def run(self, step: Callable[[Transaction], _T]) -> _T:
        """Run `step` in a read transaction; if it asks for a writer, once more in a write transaction.

        Raises:
            StoreError: for any failure. Nothing was written then.
        """
        now = monotonic()
        until = now + min(self._timeout, max(waits_until() - now, self._timeout * _LEAST))
        with self._entered(until):
            try:
                return self._attempt(step, until)
            except sqlite3.DatabaseError as error:
                if not is_broken(error) or self._only_look:
                    raise
                if not self._ours:
                    what = "it was not made by flagcache, or is broken; move it, or give another path"
                    raise self._trouble(what) from error
                self._replace(until, error)
            return self._attempt(step, until)

    @property
    def is_missing(self) -> bool:
        """Whether there is no such file in its directory, or an empty one."""
        try:
            path = resolved(self.path)
            return path.parent.is_dir() and identify(path) is None
        except OSError:
            return False

    def close(self) -> None:
        """Close this process's connection; the next `run` opens another."""
        with suppress(StoreError), self._entered(monotonic() + self._timeout):
            self._close()

    @contextmanager
    def _entered(self, until: float) -> Generator[None]:
        """Use the file on one thread of this process at a time, and convert every error to a `StoreError`."""
        process = this_process()
        if process.useless:  # before the lock, which may be held by a thread that this process doesn't have
            raise self._trouble("this process was forked while another thread used SQLite; start it anew")
        with process.entered():
            if not self._lock.acquire(timeout=max(0.0, until - monotonic())):
                raise self._trouble("another thread of this process has been using it for too long")
            try:
                yield
            except (sqlite3.Error, OSError, UnicodeError, OverflowError) as error:
                if "locked" not in str(error):  # any other error may be the connection's own
                    with suppress(sqlite3.Error):
                        self._close()
                raise StoreError(words_of(error), kind_of(error), f"SQLite store {self.path}") from error
            finally:
                self._lock.release()

    def _attempt(self, step: Callable[[Transaction], _T], until: float) -> _T:
        connection = self._connection(until)
        try:
            return transact(connection, step, until, writing=False)
        except WriterNeeded:
            return transact(connection, step, until, writing=True)

    def _connection(self, until: float) -> sqlite3.Connection:
        if self._view is not None and self._looks_otherwise(self._view):
            self._close()
        opened, process = self._opened, this_process()
        if opened is not None and (
            opened.process is not process
            or process.has_lost(opened.identity)
            or not is_there(self.path, opened.identity)
        ):
            opened.close()
            self._leave()
            opened = None
        for _ in range(_TRIES):
            opened = self._opened = opened or self._open(until)
            if opened is not None:
                return opened.connection
        raise self._trouble("it is replaced again and again")

    def _looks_otherwise(self, view: View) -> bool:
        """Whether a file that was opened for reading only has to be opened again to see what others wrote."""
        try:
            return View.of(resolved(self.path), with_log=view.changed == (0, 0)) != view
        except OSError:
            return True

    def _open(self, until: float) -> Opened | None:
        """Open the file, or make it if there is none; None asks for another try: it was just made, or replaced."""
        if self._guard is not None:
            self._guard(self.path)
        path = resolved(self.path)
        check_directory(path.parent, self.path)
        self._found = found = identify(path)
        if found is None:
            if self._only_look:
                raise self._trouble("there is no such file, or it is empty")
            with alone(path, until):
                make(path, self._schema)
            return None
        if this_process().has_lost(found):
            raise self._trouble(
                "its locks ended with the process that this one was forked from, or its files were closed under it as"
                " makers of daemons do; start this process anew, or open the store after that"
            )
        try:
            opened = self._reach(path, found, until)
        except (sqlite3.Error, OSError):
            if is_there(path, found):
                raise
            return None
        if path.is_symlink() or not is_there(path, found):
            return None  # it stays open, because it may have opened another file's log
        self._closer = weakref.finalize(self, opened.close)
        self._closer.atexit = False  # a thread may be in it; the next process takes up what it leaves
        return opened

    def _reach(self, path: Path, found: Identity, until: float) -> Opened:
        *others, last = modes(path, only_look=self._only_look)
        for mode in others:
            with suppress(sqlite3.OperationalError):
                return self._reach_by(mode, path, found, until)
        return self._reach_by(last, path, found, until)

    def _reach_by(self, mode: Mode, path: Path, found: Identity, until: float) -> Opened:
        view = None if mode is Mode.WRITE else View.of(path, with_log=mode is Mode.LOG)
        opened = Opened(connect(path, mode, until), this_process(), path, found)
        self._ours = self._replace_foreign
        try:
            self._recognise(opened.connection, mode)
            opened.shm = None if mode is Mode.FILE else identify(beside(path, "-shm"))
        except BaseException:
            self._ours = self._ours or bears(opened.connection, self._schema.application)
            opened.close()
            raise
        self._view = view
        return opened

    def _recognise(self, connection: sqlite3.Connection, mode: Mode) -> None:
        """Check that the file is ours, and prepare it for use."""
        application, version = (pragma(connection, name) for name in ("application_id", "user_version"))
        if self._replace_foreign and (application, version) != (self._schema.application, self._schema.version):
            raise sqlite3.DatabaseError("it is of another program or another version")
        if application != self._schema.application:
            raise self._trouble("this is a database of another program; give another path")
        if version != self._schema.version:
            raise self._trouble(
                f"its format is {version}, known is {self._schema.version}; upgrade, or give another path"
            )
        self._ours = True
        connection.execute("PRAGMA synchronous=NORMAL")
        if mode is not Mode.WRITE:
            return
        if pragma(connection, "journal_mode=WAL") != "wal":
            raise self._trouble("its file system allows no write-ahead log; give a path on a local disk")
        complete(connection, self._schema)

    def _replace(self, until: float, error: sqlite3.Error) -> None:
        """Set the broken file aside and make a new one, unless another process has done so."""
        path = resolved(self.path)
        with alone(path, until):
            if self._found is None or not is_there(path, self._found):
                return
            aside = set_aside(path)
            self._close()
            make(path, self._schema)
        text = "%s: SQLite store %s was broken (%s): set aside as %s, and made anew"
        _log.warning(text, prefix(), self.path, error, aside)

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._leave()

    def _leave(self) -> None:
        """Forget the connection, which is closed, or a parent's, or must stay open."""
        self._opened = self._view = None
        if self._closer is not None:
            self._closer.detach()

    def _trouble(self, trouble: str) -> StoreError:
        return StoreError(trouble, address=f"SQLite store {self.path}")
