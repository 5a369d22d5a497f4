"""One process: its identity, its clock, and its hooks after a fork and at exit.

Invariant: nothing here runs before a fork, or takes a lock that a fork could inherit. Event loops fork for each
subprocess, and a lock that another thread holds at that moment is never released in the child.
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
from flagcache.runtime.guard import log_exceptions

__all__ = ["AtExit", "AtFork", "at_exit", "at_fork", "clock", "hooks_run", "identity", "leave", "leave_at_end"]


class AtFork(Protocol):
    """Something with a hook that runs in each forked child."""

    def forked(self) -> None:
        """Called in the child only, before its other code. Must not block."""
        ...


class AtExit(Protocol):
    """An object that does something when the process exits."""

    def leave(self) -> None:
        """Called when the interpreter exits normally. It must return within a limited time."""
        ...


_at_fork: weakref.WeakSet[AtFork] = weakref.WeakSet()
_at_exit: weakref.WeakSet[AtExit] = weakref.WeakSet()
_hooked_pid = os.getpid()
"""Pid of the process in which this module was imported or a fork hook was last run."""

_AFTER_ALL_OTHERS = -1000
"""Priority among multiprocessing's finalizers. The highest runs first, so those of users may still evaluate flags."""

_finalizer_pid = 0
"""Pid of the process in which `leave` is registered for its end."""


clock = boottime
"""Monotonic seconds, which continue while the machine sleeps if the system supports that (Linux)."""


def identity() -> str:
    """Return a name that is unique to this process and cache object: host, pid and a random token."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"


def at_fork(owner: AtFork) -> None:
    """Call `owner.forked` in every forked child; holds `owner` weakly."""
    _at_fork.add(owner)


def at_exit(owner: AtExit) -> None:
    """Call `owner.leave` at exit; holds `owner` weakly."""
    _at_exit.add(owner)


def leave_at_end() -> None:
    """Call `leave` at the end of a child of `multiprocessing`, once, after other finalizers.

    Most of these children end by `os._exit`; those that also run exit hooks (spawned ones, and all since Python 3.13)
    would run ours too. A child drops inherited finalizers on start, so register after the worker exists. Elsewhere, and
    from the second call on, this does nothing.
    """
    if "multiprocessing.util" in sys.modules:  # each of its children has it; other processes avoid the import
        log_exceptions(_register_finalizer, None, "", "registering a finalizer with multiprocessing failed")


def _register_finalizer() -> None:
    global _finalizer_pid  # noqa: PLW0603 - one value for each process
    from multiprocessing import parent_process, util  # noqa: PLC0415 - it is imported already

    if parent_process() is not None and _finalizer_pid != os.getpid():
        _finalizer_pid = os.getpid()
        util.Finalize(None, leave, exitpriority=_AFTER_ALL_OTHERS)
        atexit.unregister(leave)


def hooks_run() -> bool:
    """Whether fork hooks ran since the last fork; servers written in C may fork without them."""
    return os.getpid() == _hooked_pid


def _forked() -> None:
    global _hooked_pid  # noqa: PLW0603 - one value for each process
    _hooked_pid = os.getpid()
    # A child of multiprocessing may have unregistered the exit hook, and a process that it forks needs it.
    atexit.unregister(leave)
    atexit.register(leave)
    for owner in list(_at_fork):
        log_exceptions(owner.forked, None, "", "after-fork hook failed")


def leave() -> None:
    """Call all exit hooks; also for processes that end without running exit hooks (`os._exit`)."""
    for owner in list(_at_exit):
        log_exceptions(owner.leave, None, "", "leaving the fleet failed")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
atexit.register(leave)
