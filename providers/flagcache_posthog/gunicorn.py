"""Hooks for gunicorn: one line in `gunicorn.conf.py`.

    from flagcache_posthog.gunicorn import *

A fleet works without them. With them each worker has its flags before its first request, hands the leadership over the
moment it ends, and writes what happens to its flags into gunicorn's error log. gunicorn reads settings and hooks from
that file by their names, so that `__all__` holds hooks and nothing else. Of the SDK nothing is imported before a worker
has loaded its application: a gevent worker patches the standard library first. Nothing is raised: a hook that fails
would keep its worker from starting.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

from flagcache.runtime.guard import guarded
from flagcache.runtime.here import prefix

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

__all__ = ["post_worker_init", "worker_exit"]

_log = logging.getLogger("flagcache")


def post_worker_init(_worker: Worker) -> None:
    """Load the clients that use a cache; gunicorn calls this when the application is loaded, before any request.

    Takes no longer than a cache's `cold_start_wait`; then the worker starts all the same. gunicorn's `timeout` does not
    end it meanwhile: it counts from a worker's first sign of life (27.0, `Arbiter.murder_workers`).
    """
    guarded(_join_error_log, None, "its log could not be joined with gunicorn's", "")
    guarded(_tell_of_late_patch, None, "it could not be found out when gevent patched", "")
    guarded(_exit_upon_signals, None, "a worker will not hand over when it is ended by a signal", "")
    guarded(_load, None, "the flags of a worker could not be loaded before its first request", "")


def worker_exit(_server: Arbiter, worker: Worker) -> None:
    """Hand the leadership over; gunicorn calls this when a worker has served its last request.

    Args:
        worker: the one that ends. The master calls this too, for a worker that it finds dead: nothing is done then.
    """
    if str(worker.pid) == str(os.getpid()):
        guarded(_say_goodbye, None, "leaving the fleet failed at the exit of a worker", "")


def _load() -> None:
    from flagcache_posthog._lifecycle import load_clients  # noqa: PLC0415 - it imports the SDK: see above

    load_clients()


def _say_goodbye() -> None:
    from flagcache_posthog._lifecycle import say_goodbye  # noqa: PLC0415 - as above

    say_goodbye()


def _tell_of_late_patch() -> None:
    """Gevent patched after the SDK was imported: over https it cannot work any more."""
    tls, theirs = sys.modules.get("ssl"), sys.modules.get("urllib3.util.ssl_")
    if theirs is not None and getattr(theirs, "SSLContext", None) is not getattr(tls, "SSLContext", None):
        _log.error(
            "%s: gevent has patched `ssl` after the PostHog SDK was imported, whose requests over https fail now: with"
            " --preload, begin gunicorn.conf.py with `from gevent import monkey; monkey.patch_all()`",
            prefix(),
        )


# --- how uvicorn's workers end ---------------------------------------------------------------------------------------


def _exit_upon_signals() -> None:
    """Let a worker of uvicorn's class end in order, so that `worker_exit` and exit handlers run.

    When it has served its last request, uvicorn raises the signal that ended it once more (0.54, `server.py`), and its
    worker leaves signals to the system (uvicorn-worker 0.4): the process would be gone at once. Other classes have
    handlers of their own.
    """
    for signum in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, _exit)


def _exit(_signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


# --- the log ---------------------------------------------------------------------------------------------------------


class _ErrorLog(logging.Handler):
    """Hands records on to gunicorn's error log, unless somebody else writes them anyway."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, in gunicorn's format and if its level is asked for."""
        error_log = logging.getLogger("gunicorn.error")
        if error_log.isEnabledFor(record.levelno) and not _handled(besides=self):
            error_log.handle(record)


def _join_error_log() -> None:
    """Nothing where somebody has configured logging; whoever does so later is noticed at each record."""
    ours = logging.getLogger("flagcache")
    if _handled(besides=None):
        return
    ours.addHandler(_ErrorLog())
    if ours.level == logging.NOTSET:
        ours.setLevel(logging.getLogger("gunicorn.error").getEffectiveLevel())


def _handled(*, besides: logging.Handler | None) -> bool:
    ours, root = logging.getLogger("flagcache"), logging.getLogger()
    return any(handler is not besides for handler in ours.handlers) or (ours.propagate and bool(root.handlers))
