"""Celery workers: flags are loaded before the first task, and a child that exits hands over the lease.

    from flagcache_posthog import celery as flags

    flags.install()

Flags are right without it: a child loads them in its first task, and if a leading child ends, another one makes the
next fetch two seconds after it was due. Only `install` imports Celery, and only Celery's workers send the signals:
`celery beat`, `celery inspect` and programs that send tasks don't.
"""

from __future__ import annotations

import importlib
import threading
from types import ModuleType

from flagcache.errors import MissingExtraError
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.threads import try_start
from flagcache_posthog._lifecycle import leave_fleet, load_clients

__all__ = ["install"]

_MAX_WAIT = 2.0
"""Seconds that a start waits for flags: half of the time after which Celery kills a new child
(`worker_proc_alive_timeout`, 4 s). A longer load continues during the tasks."""


def install() -> None:
    """Connect Celery's signals; a second call does nothing. Call it where tasks and clients are created.

    Each child of a prefork pool loads the clients that use a cache before its first task (`worker_process_init`), and
    hands over the lease when it exits (`worker_process_shutdown`), because it runs no exit hooks. In the other pools
    tasks run in the worker's own process, which loads the clients (`worker_ready`); it runs exit hooks, and needs no
    signal at its end. A failure is logged, and the worker starts in any case.

    Raises:
        MissingExtraError: Celery is not installed.
    """
    signals = _signals()
    for name, receiver in (
        ("worker_process_init", _on_child_start),
        ("worker_process_shutdown", _on_child_exit),
        ("worker_ready", _on_worker_ready),
    ):
        getattr(signals, name).connect(receiver, weak=False, dispatch_uid=f"flagcache.{name}")


def _signals() -> ModuleType:
    try:
        return importlib.import_module("celery.signals")
    except ImportError as exc:
        raise MissingExtraError("flagcache_posthog.celery needs Celery: pip install celery") from exc


def _on_child_start(**_: object) -> None:
    """Load flags in a child of a prefork pool that starts, or with the solo pool in the worker itself."""
    log_exceptions(_load, None, "", "loading flags before the first task failed")


def _on_child_exit(**_: object) -> None:
    log_exceptions(leave_fleet, None, "", "leaving the fleet failed at the exit of a Celery child")


def _on_worker_ready(sender: object = None, **_: object) -> None:
    """Load flags in the worker itself, unless it has a prefork pool, whose children evaluate."""
    if not _forks(getattr(sender, "pool", None)):
        log_exceptions(_load, None, "", "loading flags before the first task failed")


def _forks(pool: object) -> bool:
    return any(kind.__module__ == "celery.concurrency.prefork" for kind in type(pool).__mro__)


def _load() -> None:
    loading = threading.Thread(target=load_clients, name="flagcache-load", daemon=True)
    if not try_start(loading):  # without a thread the first task loads them
        loading.join(_MAX_WAIT)
