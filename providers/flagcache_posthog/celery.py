"""Celery workers: flags are there before the first task, and a child that ends hands the lease over.

    from flagcache_posthog import celery as flags

    flags.install()

Nothing of it is needed for flags to be right: without it a child loads them in its first task, and if a child that led
has ended, another one makes the next fetch two seconds after it was due. To import this module does nothing. Celery is
imported by `install` alone, and only its workers send the signals: not `celery beat`, nor `inspect`, nor a program that
sends tasks.
"""

from __future__ import annotations

import importlib
import threading
from types import ModuleType

from flagcache.errors import MissingExtraError
from flagcache.runtime.guard import guarded
from flagcache.runtime.threads import try_start
from flagcache_posthog._lifecycle import load_clients, say_goodbye

__all__ = ["install"]

_LONGEST = 2.0
"""Seconds for which a start waits for flags, half of what Celery gives a new child before it kills it
(`worker_proc_alive_timeout`, 4 s). What takes longer goes on beside the tasks."""


def install() -> None:
    """Connect Celery's signals; a second call does nothing. To be called where tasks and clients are made.

    Each child of a prefork pool loads the clients that use a cache before its first task (`worker_process_init`), and
    hands the lease over when it ends (`worker_process_shutdown`), because it runs no exit hooks. Of the other pools,
    whose tasks run in the worker's own process, that one loads (`worker_ready`); its end is an interpreter's, and needs
    no signal. A failure is logged and keeps no worker from starting.

    Raises:
        MissingExtraError: Celery is not installed.
    """
    signals = _signals()
    for name, receiver in (
        ("worker_process_init", _child_begins),
        ("worker_process_shutdown", _child_ends),
        ("worker_ready", _worker_begins),
    ):
        getattr(signals, name).connect(receiver, weak=False, dispatch_uid=f"flagcache.{name}")


def _signals() -> ModuleType:
    try:
        return importlib.import_module("celery.signals")
    except ImportError as exc:
        raise MissingExtraError("flagcache_posthog.celery needs Celery: pip install celery") from exc


def _child_begins(**_: object) -> None:
    """A child of a prefork pool begins, or the worker itself with the solo pool."""
    guarded(_load, None, "flags could not be loaded before the first task", "")


def _child_ends(**_: object) -> None:
    guarded(say_goodbye, None, "leaving the fleet failed at the exit of a Celery child", "")


def _worker_begins(sender: object = None, **_: object) -> None:
    """The worker itself is ready; with a prefork pool its children evaluate, not it."""
    if not _forks(getattr(sender, "pool", None)):
        guarded(_load, None, "flags could not be loaded before the first task", "")


def _forks(pool: object) -> bool:
    return any(kind.__module__ == "celery.concurrency.prefork" for kind in type(pool).__mro__)


def _load() -> None:
    loading = threading.Thread(target=load_clients, name="flagcache-load", daemon=True)
    if not try_start(loading):  # without a thread the first task loads them
        loading.join(_LONGEST)
