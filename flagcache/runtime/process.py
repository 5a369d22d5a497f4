"""What belongs to one process: its identity, its clock, and what happens at a fork and at exit.

Nothing here may run before a fork or take a lock that a fork could inherit: event loops fork at each subprocess, and a
lock held by another thread at that moment stays held in the child for ever.
"""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import sys
import weakref
from typing import Protocol

from flagcache.runtime.clock import boottime
from flagcache.runtime.guard import guarded

__all__ = ["AtExit", "AtFork", "at_exit", "at_fork", "clock", "expect_end", "hooks_run", "identity", "leave"]


class AtFork(Protocol):
    """Something that must be told when it wakes up in a child."""

    def forked(self) -> None:
        """Called in the child, before any other code of it, and on no other occasion. Must not block."""
        ...


class AtExit(Protocol):
    """Something that has to say goodbye."""

    def leave(self) -> None:
        """Called when the interpreter exits in an orderly way. Must be bounded in time."""
        ...


_at_fork: weakref.WeakSet[AtFork] = weakref.WeakSet()
_at_exit: weakref.WeakSet[AtExit] = weakref.WeakSet()
_told = os.getpid()
"""Pid of the process in which this module was imported or a fork hook was last run."""

_AFTER_ALL_OTHERS = -1000
"""Priority among multiprocessing's finalizers, of which the highest runs first: those of users may still evaluate."""

_expecting = 0
"""Pid of the process that has been told of its end."""


def identity() -> str:
    """Make a name that no other process and no other cache object has: host, pid and a random token."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"


def clock() -> float:
    """Seconds that only go forward, also while the machine sleeps if the system can tell (Linux)."""
    return boottime()


def at_fork(who: AtFork) -> None:
    """Tell `who` in every forked child; holds it weakly."""
    _at_fork.add(who)


def at_exit(who: AtExit) -> None:
    """Tell `who` at exit; holds it weakly."""
    _at_exit.add(who)


def expect_end() -> None:
    """Have `leave` called at the end of a child of `multiprocessing`, once, after the finalizers of others.

    Most of these children end by `os._exit`; those that run exit hooks too (spawned ones, and all since Python 3.13)
    would run ours as well. They forget finalizers when they begin; so this is to be called once there is something to
    leave. Elsewhere, and from the second time on, it does nothing.
    """
    if "multiprocessing.util" in sys.modules:  # each of its children has it; nobody else need pay for the import
        guarded(_expect_end, None, "multiprocessing could not be asked to call us at the end of this process", "")


def _expect_end() -> None:
    global _expecting  # noqa: PLW0603 - one per process, as what it speaks of
    from multiprocessing import parent_process, util  # noqa: PLC0415 - it is imported already

    if parent_process() is not None and _expecting != os.getpid():
        _expecting = os.getpid()
        util.Finalize(None, leave, exitpriority=_AFTER_ALL_OTHERS)
        atexit.unregister(leave)


def hooks_run() -> bool:
    """Whether fork hooks ran since the last fork; servers written in C may fork without them."""
    return os.getpid() == _told


def _forked() -> None:
    global _told  # noqa: PLW0603 - one note of the process
    _told = os.getpid()
    atexit.unregister(leave)  # a child of multiprocessing may have, and what it forks is none
    atexit.register(leave)
    for who in list(_at_fork):
        guarded(who.forked, None, "a cache could not start anew in a forked process", "")


def leave() -> None:
    """Say goodbye for all, as at exit; for processes that end without running exit hooks (`os._exit`)."""
    for who in list(_at_exit):
        guarded(who.leave, None, "could not leave its fleet in order", "")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
atexit.register(leave)
