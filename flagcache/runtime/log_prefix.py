"""The beginning of log lines: the cache and the process that they are about."""

from __future__ import annotations

import os

__all__ = ["prefix", "process_name"]


def process_name() -> str:
    """Return this host's name and this process's id: `web-1:4711`. A fork may change both, so neither is cached."""
    host = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "localhost")
    return f"{host}:{os.getpid()}"


def prefix(namespace: str = "") -> str:
    """Return the beginning of a log line, `flagcache[shop] web-1:4711`; the namespace may be left out."""
    return f"flagcache[{namespace}] {process_name()}" if namespace else f"flagcache {process_name()}"
