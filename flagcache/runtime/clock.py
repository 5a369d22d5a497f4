"""The system's real clocks, also in tests that replace `time`: a replaced clock would stop our waits.

freezegun replaces the functions of `time`, and each module's own names for them, when a test begins. It doesn't replace
`clock_gettime`, which every system except Windows has.
"""

from __future__ import annotations

import time

__all__ = ["boottime", "monotonic", "wall_milliseconds"]


class _System:
    """Functions in a class, because freezegun replaces them in modules only."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time_ns)


def monotonic() -> float:
    """Monotonic seconds, which stop while the machine sleeps."""
    if hasattr(time, "CLOCK_MONOTONIC"):
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return _System.monotonic()


def boottime() -> float:
    """Monotonic seconds, which continue while the machine sleeps if the system supports that (Linux)."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return monotonic()


def wall_milliseconds() -> int:
    """Milliseconds since 1970, by this machine's clock."""
    if hasattr(time, "CLOCK_REALTIME"):
        return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000
    return _System.wall() // 1_000_000
