"""Prevents a failure of the SDK under gevent, before gevent patches the standard library."""

from __future__ import annotations

import importlib.util
import sys

from flagcache.runtime.guard import log_exceptions

__all__ = ["preload_system_name"]


def preload_system_name() -> None:
    """Look up the system's name and version now if gevent is installed; `distro` caches them.

    At its first event the SDK asks `distro` for them, which runs `uname` and `lsb_release`. gevent's `Popen` uses
    `os.fork` (26.9), so the SDK's fork hook runs between fork and exec, and starts threads there (posthog 7.91,
    `Client._reinit_after_fork`). These are greenlets, so all other greenlets run in that child too, on the parent's
    connections: replies get lost, or are sent twice. Before a client exists there is no such hook, and before gevent
    patches nothing here uses `os.fork`.
    """
    if sys.platform.startswith("linux"):
        log_exceptions(_query_distro, None, "", "looking up the system's name failed")


def _query_distro() -> None:
    if importlib.util.find_spec("gevent") is None:
        return
    import distro  # noqa: PLC0415 - a dependency of the SDK, slow to import

    distro.info()
    distro.name()
