"""Servers in which threads don't run, or die in forks without hooks; one warning in the log reports it.

uWSGI loads an application and then forks its workers, by default without the hooks of `os.register_at_fork` (its
`plugins/python/python_plugin.c`, 2.0.30: `uwsgi_python_post_fork`). In such a worker threads are dead but look alive,
and flagcache runs no code after the fork, so it has to warn before.

Its option `py-call-osafterfork` runs the hooks without waiting for Python's locks: if a thread of the first process
holds one, the children hang, and from Python 3.13 on they exit at once. It is accepted, but not recommended.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from flagcache.runtime import process
from flagcache.runtime.log_prefix import prefix

__all__ = ["Server", "advice", "advise"]

_log = logging.getLogger(__name__)

_FORK_HOOKS = ("py-call-uwsgi-fork-hooks", "py-call-osafterfork")
_OFF = ("false", "off", "no", "0")  # uWSGI takes every other value for true: core/uwsgi.c, uwsgi_opt_true

_REMEDY = "set `lazy-apps = true`, or both `enable-threads = true` and `py-call-uwsgi-fork-hooks = true`"
_NO_THREADS = "uWSGI runs no threads here, so flags are not updated between requests: set `enable-threads = true`"
_NO_HOOKS = (
    "uWSGI will fork its workers without Python's fork hooks: clients made before that do not poll in them, and"
    f" their flags are never updated; {_REMEDY}"
)
_NO_FORK_HOOKS = (
    "this process was forked without Python's fork hooks: clients made before that do not poll here, and their flags"
    f" are never updated; make them after the fork, or under uWSGI {_REMEDY}"
)


@runtime_checkable
class Server(Protocol):
    """The module `uwsgi`, which exists only inside uWSGI. Other modules of that name lack some of these attributes."""

    has_threads: int
    numproc: int
    opt: Mapping[str, object]
    """The configuration: True, text in bytes, or a list of several."""
    worker_id: Callable[[], int]
    """Id of this worker; 0: not a worker, or not yet."""
    masterpid: Callable[[], int]
    """Pid of the master; 0: there is no master."""


_advised = False


def advise() -> None:
    """Log a warning if clients made in this process won't work; once, including its forked children."""
    global _advised  # noqa: PLW0603 - one value for each process
    if not _advised and (text := advice(sys.modules.get("uwsgi"))):
        _advised = True
        _log.warning("%s: %s", prefix(), text)


def advice(server: object) -> str:
    """Return the warning; empty if there is no problem.

    Args:
        server: the module `uwsgi`, if there is one.
    """
    if isinstance(server, Server):
        if not server.has_threads:
            return _NO_THREADS
        if _will_fork(server) and not any(_is_on(server.opt.get(name)) for name in _FORK_HOOKS):
            return _NO_HOOKS
    return "" if process.hooks_run() else _NO_FORK_HOOKS


def _will_fork(server: Server) -> bool:
    """Whether this process forks the workers; without a master it becomes one of them itself."""
    master = server.masterpid()
    return server.worker_id() == 0 and (master == os.getpid() or (not master and server.numproc > 1))


def _is_on(value: object) -> bool:
    text = value.decode() if isinstance(value, bytes) else str(value)
    return value is not None and text.lower() not in _OFF
