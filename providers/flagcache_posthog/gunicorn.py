"""Hooks for gunicorn: one line in `gunicorn.conf.py`.

    from flagcache_posthog.gunicorn import *

A fleet works without them. With them each worker has its flags before its first request, gives up the lease when it
ends, and writes flagcache's log to gunicorn's error log. gunicorn reads settings and hooks from that file by name, so
`__all__` contains only hooks. The SDK is not imported before a worker has loaded its application, because a gevent
worker patches the standard library first. Nothing is raised, because a failing hook would stop its worker.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.log_prefix import prefix

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

__all__ = ["post_worker_init", "worker_exit"]

_log = logging.getLogger("flagcache")


def post_worker_init(_worker: Worker) -> None:
    """Load the clients that use a cache; gunicorn calls this when the application is loaded, before any request.

    This takes at most a cache's `cold_start_wait`; then the worker starts in any case. gunicorn's `timeout` doesn't end
    it meanwhile, because it counts from a worker's first heartbeat (27.0, `Arbiter.murder_workers`).
    """
    log_exceptions(_join_error_log, None, "", "connecting the log to gunicorn's error log failed")
    log_exceptions(_log_late_patch, None, "", "checking when gevent patched failed")
    log_exceptions(
        _exit_on_signals,
        None,
        "",
        "installing the signal handler failed: the worker can't hand over if a signal ends it",
    )
    log_exceptions(_load, None, "", "loading a worker's flags before its first request failed")


def worker_exit(_server: Arbiter, worker: Worker) -> None:
    """Give up the lease; gunicorn calls this when a worker has served its last request.

    Args:
        worker: the worker that ends. The master calls this too, for a dead worker; then it does nothing.
    """
    if str(worker.pid) == str(os.getpid()):
        log_exceptions(_leave_fleet, None, "", "leaving the fleet failed at the exit of a worker")


def _load() -> None:
    from flagcache_posthog._lifecycle import load_clients  # noqa: PLC0415 - it imports the SDK: see above

    load_clients()


def _leave_fleet() -> None:
    from flagcache_posthog._lifecycle import leave_fleet  # noqa: PLC0415 - as above

    leave_fleet()


def _log_late_patch() -> None:
    """Log an error if gevent patched after the SDK was imported: the SDK then fails over https."""
    ssl_module, urllib3_ssl = sys.modules.get("ssl"), sys.modules.get("urllib3.util.ssl_")
    used = getattr(urllib3_ssl, "SSLContext", None)
    if urllib3_ssl is not None and used is not getattr(ssl_module, "SSLContext", None):
        _log.error(
            "%s: gevent patched `ssl` after the PostHog SDK was imported, so the SDK's requests over https fail: with"
            " --preload, begin gunicorn.conf.py with `from gevent import monkey; monkey.patch_all()`",
            prefix(),
        )


# --- how uvicorn's workers end ---------------------------------------------------------------------------------------


def _exit_on_signals() -> None:
    """Let a worker of uvicorn's class exit normally, so that `worker_exit` and exit handlers run.

    After its last request uvicorn raises the signal that ended it again (0.54, `server.py`), and its worker class has
    no handler for it (uvicorn-worker 0.4), so the system would end the process at once. Other worker classes have
    their own handlers.
    """
    for signum in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, _exit)


def _exit(_signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


# --- the log ---------------------------------------------------------------------------------------------------------


class _ErrorLog(logging.Handler):
    """Passes records to gunicorn's error log, unless another handler writes them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record in gunicorn's format, if its level is enabled."""
        error_log = logging.getLogger("gunicorn.error")
        if error_log.isEnabledFor(record.levelno) and not _handled(besides=self):
            error_log.handle(record)


def _join_error_log() -> None:
    """Connect flagcache's log to it, unless logging is configured.

    Each record checks again, because that may happen later.
    """
    logger = logging.getLogger("flagcache")
    if _handled(besides=None):
        return
    logger.addHandler(_ErrorLog())
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.getLogger("gunicorn.error").getEffectiveLevel())


def _handled(*, besides: logging.Handler | None) -> bool:
    logger, root = logging.getLogger("flagcache"), logging.getLogger()
    return any(handler is not besides for handler in logger.handlers) or (logger.propagate and bool(root.handlers))
