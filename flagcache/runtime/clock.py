"""The system's real clocks, also in tests that replace `time`: a replaced clock would stop our waits.

freezegun replaces the functions of `time`, and each module's own names for them, when a test begins. It doesn't replace
`clock_gettime`, which every system except Windows has, nor a `partial` of any function.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

__all__ = ["boottime", "monotonic", "wall_milliseconds"]


def _clock(name: str) -> Callable[[], float] | None:
    """Return the system's clock of this name; None if it has none. A poll reads clocks a dozen times."""
    return partial(time.clock_gettime, getattr(time, name)) if hasattr(time, name) else None


monotonic: Callable[[], float] = _clock("CLOCK_MONOTONIC") or partial(time.monotonic)
"""Returns monotonic seconds, which stop while the machine sleeps."""

boottime: Callable[[], float] = _clock("CLOCK_BOOTTIME") or monotonic
"""Returns monotonic seconds, which continue while the machine sleeps if the system supports that (Linux)."""

_wall = (
    partial(time.clock_gettime_ns, time.CLOCK_REALTIME) if hasattr(time, "CLOCK_REALTIME") else partial(time.time_ns)
)


def wall_milliseconds() -> int:
    """Milliseconds since 1970, by this machine's clock."""
    return _wall() // 1_000_000
