"""How a process opens one of its stores."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import NamedTuple

from flagcache.stores.base import Store

__all__ = ["REDIS_SCHEMES", "StoreSpec", "missing_for_sqlite", "scheme_in"]

_SERVERS = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}

REDIS_SCHEMES = {
    "unix": "unix",
    **_SERVERS,
    **{f"{name}+{kind}": called for kind in ("sentinel", "cluster") for name, called in _SERVERS.items()},
}
"""The schemes of a Redis's URLs, or of a server's with its protocol; the values are redis-py's schemes."""


_SQLITE_MODULES = ("fcntl", "ctypes", "sqlite3")
_SQLITE_CALLS = ("O_CLOEXEC", "O_DIRECTORY", "geteuid", "register_at_fork", "statvfs")


def missing_for_sqlite() -> str:
    """Return what SQLite's store needs and this system lacks, as `Python has no module fcntl here`; empty if nothing.

    Its processes use POSIX locks, which Windows doesn't have. A Python may also have been built without SQLite.
    """
    missing = [f"module {name}" for name in _SQLITE_MODULES if not _can_import(name)]
    missing += [f"os.{name}" for name in _SQLITE_CALLS if not hasattr(os, name)]
    return f"Python has no {missing[0]} here" if missing else ""


def _can_import(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def scheme_in(url: str) -> str:
    """Return the scheme of a URL, in lower case; empty if it has none."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator else ""


class StoreSpec(NamedTuple):
    """How a process opens one of its stores, and its address for people."""

    address: str
    """Its address, without user name and password."""
    open: Callable[[], Store]
    """Makes the store, in each process and again after `FailoverStores.close`; opens no connection."""
    open_to_lead: Callable[[], Store] | None = None
    """Makes the same store for a process that may lead, if this one may not; None: as `open`."""
    pace: float = 1.0
    """The number of refresh intervals between two fetches that this store coordinates."""
    fallback: bool = False
    """Keeps what the stores before it return, to have it when they are away."""
    private: bool = False
    """Each process has its own; a forked child's is empty at first."""
