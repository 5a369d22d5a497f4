"""The one place where any exception is caught: our code is called by somebody who must not suffer from its bugs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from flagcache.runtime.here import prefix

__all__ = ["guarded"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_Otherwise = TypeVar("_Otherwise")


def guarded(call: Callable[[], _T], otherwise: _Otherwise, what: str, namespace: str) -> _T | _Otherwise:
    """Return what `call` returns, or `otherwise` if it raises; then log `what` with the traceback.

    The `namespace` says in the log line to which cache it happened; empty if it concerns no single one.

    Exceptions that are no `Exception` (a worker's timeout signal, `SystemExit`) pass: they are not ours.
    """
    try:
        return call()
    except Exception:  # noqa: BLE001 - the vendor's SDK takes an exception for "fetch"; a hook's would hide others
        _log.exception("%s: %s", prefix(namespace), what)
        return otherwise
