"""Catches exceptions of all types and logs them, so that our bugs don't reach the code that calls us."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from flagcache.runtime.log_prefix import prefix

__all__ = ["log_exceptions", "log_failure"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_Otherwise = TypeVar("_Otherwise")


def log_exceptions(
    call: Callable[[], _T], otherwise: _Otherwise, namespace: str, message: str, *args: object
) -> _T | _Otherwise:
    """Return what `call` returns, or `otherwise` if it raises; then log `message` with the traceback.

    `namespace` names the cache in the log line; empty if the line is about no single cache. `args` are merged into
    `message` by `%` and only if the line is written, so a call that succeeds formats nothing.

    A `BaseException` that is not an `Exception` (a worker's timeout signal, `SystemExit`) passes: it isn't ours.
    """
    try:
        return call()
    except Exception:  # noqa: BLE001 - for the vendor's SDK an exception means "fetch"; one in a hook would stop others
        log_failure(namespace, message, *args)
        return otherwise


def log_failure(namespace: str, message: str, *args: object) -> None:
    """Log `message % args` with the traceback of the exception that the caller has just caught.

    Each poll passes through some callers, and these catch exceptions themselves: `log_exceptions` would be two more
    calls.
    """
    template = f"%s: {message}"
    _log.exception(template, prefix(namespace), *args)
