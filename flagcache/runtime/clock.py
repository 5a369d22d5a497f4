"""The system's clocks as they are: what an application's tests put in the place of `time` stops none of our waits.

freezegun replaces the functions of `time`, and each module's own names for them, whenever a test begins. It leaves
`clock_gettime` alone, which every system but Windows has.
"""

from __future__ import annotations

import time

__all__ = ["boottime", "monotonic", "wall_milliseconds"]


class _System:
    """Functions in a class: freezegun looks for them in modules alone."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time_ns)


def monotonic() -> float:
    """Seconds that only go forward, while this machine is awake."""
    if hasattr(time, "CLOCK_MONOTONIC"):
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return _System.monotonic()


def boottime() -> float:
    """Seconds that only go forward, also while the machine sleeps if the system can tell (Linux)."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return monotonic()


def wall_milliseconds() -> int:
    """Milliseconds since 1970, by this machine's clock."""
    if hasattr(time, "CLOCK_REALTIME"):
        return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000
    return _System.wall() // 1_000_000
