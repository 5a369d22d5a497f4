"""How log lines begin: with the cache and the process that they are about."""

from __future__ import annotations

import os

__all__ = ["here", "prefix"]


def here() -> str:
    """Return this host's name and this process's id: `web-1:4711`. Both may change by a fork, so that none is kept."""
    host = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "localhost")
    return f"{host}:{os.getpid()}"


def prefix(namespace: str = "") -> str:
    """Return how a log line about a cache begins, `flagcache[shop] web-1:4711`; without a namespace it is of none."""
    return f"flagcache[{namespace}] {here()}" if namespace else f"flagcache {here()}"
