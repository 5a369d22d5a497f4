"""What a process may do with SQLite files that it, or a process that it was forked from, has open.

SQLite's locks are POSIX locks. A forked child inherits the parent's *table* of locks, in SQLite's own memory, but not
one of the locks themselves, and each connection that it opens to the same file believes the table, and uses the open
`-shm` beside it. Four things follow:

- A connection is used, closed and freed by its own process alone. Freeing one in a child would end its transaction
  in the memory that parent and child share.
- What an idle connection holds (a shared lock on the file, another on its `-shm`) a child takes for itself right after
  the fork, so that the table tells the truth. Without, the parent's end leaves the child without any lock: the next
  process resets the log under it, and the two never see each other's writes again.
- What a connection in mid-transaction holds cannot be had: a child forked then finds the file busy for ever, or a mutex
  taken by a thread that it does not have. Such a child is told at once that SQLite is not for it.
- What was open may be closed under SQLite by whoever makes a daemon of the child. SQLite would lock, and write,
  what has the numbers by then; so the descriptors of those locks are looked at before each use, and where they lead
  elsewhere the file is given up.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sqlite3
import stat
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["Identity", "Opened", "Process", "beside", "identify", "is_there", "this_process"]

_MAIN_LOCK = (0x40000002, 510)
"""Where an open WAL connection holds its shared lock: https://sqlite.org/fileformat2.html, "The Lock-Byte Page"."""

_SHM_LOCK = (128, 1)
"""The byte of the `-shm` file that each of its users holds: `UNIX_SHM_DMS` in SQLite's os_unix.c, since 3.7."""


_SEES_MOVES = (3, 31)
"""The first version of SQLite of which it is known that it leaves the log of a file that has gone from its path."""


class Identity(NamedTuple):
    """Which file it is, whatever its name."""

    device: int
    inode: int


def beside(path: Path, suffix: str) -> Path:
    """Return the path of what lies beside a file under its name and a suffix."""
    return path.with_name(path.name + suffix)


def identify(path: Path) -> Identity | None:
    """Tell which file is at the path; None when there is none, or an empty one."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    empty = stat.S_ISREG(found.st_mode) and not found.st_size
    return None if empty else Identity(found.st_dev, found.st_ino)


def is_there(path: Path, identity: Identity) -> bool:
    """Tell whether the path still leads to this file."""
    try:
        return identify(path) == identity
    except OSError:
        return False


class Process:
    """One process and the SQLite files that it has a table of locks for.

    Args:
        opened: the connections whose locks are in the table.
        useless: it was forked while another thread was in SQLite.
        lost: files that its parent had open and whose locks could not be taken.
    """

    def __init__(self, opened: Iterable[Opened] = (), *, useless: bool = False, lost: Iterable[Identity] = ()) -> None:
        self.opened = list(opened)
        self.useless = useless
        self.lost = set(lost)
        self.inside: set[object] = set()
        """One object for each thread that is in SQLite now."""
        self.witnesses: dict[int, Identity] = {}
        """The descriptors that hold locks of what was inherited: never closed by us, and gone when all inherited ones
        were closed."""

    def has_lost(self, identity: Identity) -> bool:
        """Tell whether SQLite must not be let near this file, for what it believes of it is not so."""
        if not all(_leads_to(descriptor, file) for descriptor, file in self.witnesses.items()):
            self.lost.update(opened.identity for opened in self.opened)
            self.witnesses.clear()
        return identity in self.lost

    @contextmanager
    def entered(self) -> Generator[None]:
        """Be known to be in SQLite, for a fork that another thread may do meanwhile."""
        token = object()
        self.inside.add(token)
        try:
            yield
        finally:
            self.inside.discard(token)


class Opened:
    """A connection, the process it belongs to, and which file it reached.

    Never freed: an extra reference holds it until `close`, also while an interpreter shuts down.
    """

    def __init__(self, connection: sqlite3.Connection, process: Process, path: Path, identity: Identity) -> None:
        self.connection = connection
        self.process = process
        self.path = path
        self.identity = identity
        self.shm: Identity | None = None
        """Its shared memory; None until it is known, and where it takes no locks."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        process.opened.append(self)

    def close(self) -> None:
        """Close it, if it is this process's and its file is not lost; else leave it open for good.

        The last one to close a file deletes its log *by name*, which may be that of a file in its place.
        """
        mine = self.process is this_process() and self in self.process.opened
        if not mine or self.process.has_lost(self.identity):
            return
        if not is_there(self.path, self.identity) and not _leaves_the_log(self.path, self.identity):
            return
        with self.process.entered():
            self.process.opened.remove(self)
            self.connection.close()
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(self.connection))


def _leaves_the_log(path: Path, identity: Identity) -> bool:
    """Whether SQLite sees for itself that this file has gone from the path, and then deletes nothing.

    It compares inodes alone (`fileHasMoved` in os_unix.c, asked by `sqlite3PagerClose`; tried with 3.31.1 to 3.40.1).
    """
    if sqlite3.sqlite_version_info < _SEES_MOVES:
        return False
    try:
        found = path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return found.st_ino != identity.inode


def this_process() -> Process:
    """Return what is known of the calling process. The first call in a forked child takes the locks it needs."""
    pid = os.getpid()
    process = _processes.get(pid)
    if process is None:
        process = _processes.setdefault(pid, _child_of(next(reversed(_processes.values()))))
    return process


def _child_of(parent: Process) -> Process:
    child = Process(parent.opened, useless=parent.useless or bool(parent.inside), lost=parent.lost)
    for opened in {opened.identity: opened for opened in parent.opened}.values():
        if opened.shm is not None and not _lock_again(child, opened.path, opened.identity, opened.shm):
            child.lost.add(opened.identity)
    return child


def _lock_again(child: Process, path: Path, identity: Identity, shm: Identity) -> bool:
    """Take the locks of an idle connection. False when its file, or its shared memory, is not there any more."""
    # The file first: whoever deletes the shared memory holds the file alone, and is then done or has yet to begin.
    return _share(child, path, identity, _MAIN_LOCK) and _share(child, beside(path, "-shm"), shm, _SHM_LOCK)


def _share(child: Process, path: Path, identity: Identity, place: tuple[int, int]) -> bool:
    start, length = place
    if not is_there(path, identity):  # asked by name: to open and close another file would give up the locks on that
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # never closed, for the same reason
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, length, start)
    except OSError:
        return False
    child.witnesses[descriptor] = identity
    return is_there(path, identity)


def _leads_to(descriptor: int, identity: Identity) -> bool:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == identity


def _after_fork() -> None:
    """Take the locks while the parent lives; where no hooks run, the first use in the child does it."""
    parent = next(reversed(_processes.values()))
    _processes.clear()
    _processes[os.getpid()] = _child_of(parent)


_processes: dict[int, Process] = {os.getpid(): Process()}
os.register_at_fork(after_in_child=_after_fork)
