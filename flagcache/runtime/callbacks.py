"""The user's callbacks, which run on threads that flags depend on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from flagcache.runtime.clock import monotonic
from flagcache.runtime.log_prefix import prefix

__all__ = ["TimedCallback"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_LONG = 1.0
"""A callback that takes longer than these seconds is logged."""


class TimedCallback(Generic[_T]):
    """Calls a callback, and logs once if that took more than a second.

    Args:
        call: the user's.
        name: the option that passed it.
    """

    def __init__(self, call: Callable[[_T], object], name: str) -> None:
        self._call = call
        self._name = name
        self._logged = False

    def __call__(self, value: _T) -> None:
        """Call the callback."""
        began = monotonic()
        try:
            self._call(value)
        finally:
            took = monotonic() - began
            if took > _LONG and not self._logged:
                self._logged = True
                _log.warning(
                    "%s: %s=%r took %.1f s on %s: fetches and polls wait for it; do long work on another thread",
                    prefix(),
                    self._name,
                    self._call,
                    took,
                    type(value).__name__,
                )
