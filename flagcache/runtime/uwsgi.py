"""Where threads do not run or die unheard, and one line of the log that tells of it.

uWSGI loads an application and then forks its workers, by default without the hooks of `os.register_at_fork` (its
`plugins/python/python_plugin.c`, 2.0.30: `uwsgi_python_post_fork`). There what ran on threads is dead, says that it is
alive, and nobody is ever called again: so it has to be told before the fork.

Of its two options `py-call-osafterfork` runs the hooks without having waited for Python's locks: while a thread of the
first process holds one, the children hang, and from Python 3.13 on they end at once. It counts, but is not recommended.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from flagcache.runtime import process
from flagcache.runtime.here import prefix

__all__ = ["Server", "advice", "advise"]

_log = logging.getLogger(__name__)

_FORK_HOOKS = ("py-call-uwsgi-fork-hooks", "py-call-osafterfork")
_OFF = ("false", "off", "no", "0")  # what uWSGI itself takes for that: its core/uwsgi.c, uwsgi_opt_true

_REMEDY = "set `lazy-apps = true`, or both `enable-threads = true` and `py-call-uwsgi-fork-hooks = true`"
_NO_THREADS = "uWSGI runs no threads here, so that flags are not updated between requests: set `enable-threads = true`"
_NO_HOOKS = (
    "uWSGI is going to fork its workers without Python's fork hooks: clients made before that do not poll in them, and"
    f" their flags are never updated; {_REMEDY}"
)
_FORKED_UNHEARD = (
    "this process was forked without Python's fork hooks: clients made before that do not poll here, and their flags"
    f" are never updated; make them after the fork, or under uWSGI {_REMEDY}"
)


@runtime_checkable
class Server(Protocol):
    """The module `uwsgi`, which exists only inside uWSGI; other modules of that name have not all of this."""

    has_threads: int
    numproc: int
    opt: Mapping[str, object]
    """What was configured: True, text in bytes, or a list of several."""
    worker_id: Callable[[], int]
    """Of this process; 0: no worker, or not yet."""
    masterpid: Callable[[], int]
    """0: there is no master."""


_said = False


def advise() -> None:
    """Say so if clients made in this process will not work as they should; once, its forked children included."""
    global _said  # noqa: PLW0603 - one flag of the process
    if not _said and (text := advice(sys.modules.get("uwsgi"))):
        _said = True
        _log.warning("%s: %s", prefix(), text)


def advice(server: object) -> str:
    """Return what to say; empty if all is well.

    Args:
        server: the module `uwsgi`, if there is one.
    """
    if isinstance(server, Server):
        if not server.has_threads:
            return _NO_THREADS
        if _will_fork(server) and not any(_is_on(server.opt.get(name)) for name in _FORK_HOOKS):
            return _NO_HOOKS
    return "" if process.hooks_run() else _FORKED_UNHEARD


def _will_fork(server: Server) -> bool:
    """Whether this is the process from which workers are forked; without a master it becomes one of them itself."""
    master = server.masterpid()
    return server.worker_id() == 0 and (master == os.getpid() or (not master and server.numproc > 1))


def _is_on(value: object) -> bool:
    text = value.decode() if isinstance(value, bytes) else str(value)
    return value is not None and text.lower() not in _OFF
