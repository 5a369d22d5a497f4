"""What a process may do with SQLite files that it, or a process that it was forked from, has open.

SQLite's locks are POSIX locks. A forked child inherits the parent's *table* of locks, in SQLite's own memory, but none
of the locks themselves. Each connection that the child opens to the same file trusts that table, and uses the inherited
`-shm`. So there are four rules:

- Only the process that opened a connection uses, closes and frees it. A child that freed it would end its transaction
  in the memory that parent and child share.
- An idle connection holds a shared lock on the file and one on its `-shm`. A child takes both for itself right after
  the fork, so that the table is true. Without them the child has no lock once the parent has exited. Then the next
  process resets the log under it, and the two never see each other's writes again.
- The locks of a connection in mid-transaction can't be taken. The child would find the file busy without end, or wait
  for a mutex that a thread of its parent held. So it can't use SQLite, and each call raises an error at once.
- Code that makes a daemon may close SQLite's descriptors. SQLite would then lock and write the files that got their
  numbers. So each use first checks the descriptors of the locks above, and gives the file up if one leads elsewhere.

The connection stays open, because the shorter forms do worse:

- Opened and closed for each verb, an unchanged poll takes 0.75 ms of CPU instead of 0.04, and a look for notices 0.65
  instead of 0.014. An attached worker (200 flags, a poll every 2 s) takes 15 ms per poll instead of 3.5; the SDK's
  example takes 3.4. A thread is in SQLite for 0.3% of the time instead of 0.01%, and a child forked meanwhile can't use
  SQLite. A process that may only read the file can't open it, because there is no `-shm` between two verbs.
- Closed by a hook before each fork, it is inherited all the same if a server forks in C, without hooks, and that child
  can't use SQLite. The hook waits for other threads and for the disk whenever an event loop starts a subprocess.
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
"""The first version of SQLite that is known to keep the log of a file that is no longer at its path."""


class Identity(NamedTuple):
    """A file, whatever its name."""

    device: int
    inode: int


def beside(path: Path, suffix: str) -> Path:
    """Return the path of the file whose name is this one's with a suffix."""
    return path.with_name(path.name + suffix)


def identify(path: Path) -> Identity | None:
    """Return which file is at the path; None if there is none, or an empty one."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    empty = stat.S_ISREG(found.st_mode) and not found.st_size
    return None if empty else Identity(found.st_dev, found.st_ino)


def is_there(path: Path, identity: Identity) -> bool:
    """Return whether the path still leads to this file."""
    try:
        return identify(path) == identity
    except OSError:
        return False


class Process:
    """One process and the SQLite files that it has a table of locks for.

    Args:
        opened: the connections whose locks are in the table.
        useless: it was forked while another thread was in SQLite, so it can't use SQLite.
        lost: files that its parent had open and whose locks could not be taken.
    """

    def __init__(self, opened: Iterable[Opened] = (), *, useless: bool = False, lost: Iterable[Identity] = ()) -> None:
        self.opened = list(opened)
        self.useless = useless
        self.lost = set(lost)
        self.inside: set[object] = set()
        """One object for each thread that is in SQLite now."""
        self.witnesses: dict[int, Identity] = {}
        """The descriptors that hold the locks of inherited connections. We never close them; other code that closes all
        inherited descriptors closes these too."""

    def has_lost(self, identity: Identity) -> bool:
        """Return whether this process must not use the file, because SQLite's table of its locks is wrong."""
        if not all(_leads_to(descriptor, file) for descriptor, file in self.witnesses.items()):
            self.lost.update(opened.identity for opened in self.opened)
            self.witnesses.clear()
        return identity in self.lost

    @contextmanager
    def entered(self) -> Generator[None]:
        """Record that the calling thread is in SQLite: another thread may fork meanwhile."""
        token = object()
        self.inside.add(token)
        try:
            yield
        finally:
            self.inside.discard(token)


class Opened:
    """A connection, its process, and the file that it opened.

    An extra reference keeps the connection from being freed before `close`, also while an interpreter shuts down.
    """

    def __init__(self, connection: sqlite3.Connection, process: Process, path: Path, identity: Identity) -> None:
        self.connection = connection
        self.process = process
        self.path = path
        self.identity = identity
        self.shm: Identity | None = None
        """Its `-shm`; None until it is known, and if the connection takes no locks."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        process.opened.append(self)

    def close(self) -> None:
        """Close it if this process opened it and its file is not lost; otherwise leave it open for good.

        The last connection to close a file deletes its log *by name*, and another file may have that name now.
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
    """Return whether SQLite itself notices that this file is no longer at the path, and then deletes nothing.

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
    """Return the calling process. The first call in a forked child takes the locks that it needs."""
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
    """Take the locks of an idle connection; False if its file or its `-shm` is gone."""
    # The file first: a process that deletes the `-shm` has the file locked, so it has finished or has not yet begun.
    return _share(child, path, identity, _MAIN_LOCK) and _share(child, beside(path, "-shm"), shm, _SHM_LOCK)


def _share(child: Process, path: Path, identity: Identity, place: tuple[int, int]) -> bool:
    start, length = place
    if not is_there(path, identity):  # by name: opening and closing another file would give up the locks on that one
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # never closed: that would give up the locks
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
    """Take the locks while the parent lives. If no hooks run, the first use in the child takes them."""
    parent = next(reversed(_processes.values()))
    _processes.clear()
    _processes[os.getpid()] = _child_of(parent)


_processes: dict[int, Process] = {os.getpid(): Process()}
os.register_at_fork(after_in_child=_after_fork)
