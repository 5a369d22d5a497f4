"""Callbacks of the user's, which run where flags wait for them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from flagcache.runtime.clock import monotonic
from flagcache.runtime.here import prefix

__all__ = ["TimedCallback"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_LONG = 1.0
"""Seconds after which a callback is named."""


class TimedCallback(Generic[_T]):
    """Calls what it is given, and logs once if that took over a second.

    Args:
        call: the user's.
        name: the option by which it was given.
    """

    def __init__(self, call: Callable[[_T], object], name: str) -> None:
        self._call = call
        self._name = name
        self._told = False

    def __call__(self, value: _T) -> None:
        """Call it."""
        began = monotonic()
        try:
            self._call(value)
        finally:
            took = monotonic() - began
            if took > _LONG and not self._told:
                self._told = True
                _log.warning(
                    "%s: %s=%r took %.1f s on %s: fetches and polls wait for it; let it hand long work to a"
                    " thread of its own",
                    prefix(),
                    self._name,
                    self._call,
                    took,
                    type(value).__name__,
                )
