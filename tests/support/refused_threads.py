"""A system that refuses every further thread, as at its limit of processes."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable

import pytest

__all__ = ["allow_threads", "forbid_threads", "refuse_threads"]

_NOBODY = 54321
"""A user of no name: the limit does not bind root."""


def forbid_threads() -> None:
    """Refuse every further thread of this process; root permanently becomes another user for that."""
    if os.geteuid() == 0:
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, most))


def allow_threads() -> None:
    """Let threads start again."""
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def refuse_threads(monkeypatch: pytest.MonkeyPatch, name: str) -> Callable[[], None]:
    """Let no thread start that has this in its name, until what is returned is called."""
    start, refusing = threading.Thread.start, [True]

    def start_or_fail(thread: threading.Thread) -> None:
        if refusing and name in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    return refusing.clear
