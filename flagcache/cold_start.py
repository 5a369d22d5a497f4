"""How a process that holds nothing waits for its first definitions: short, spread, growing pauses between looks."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_exponential, wait_random
from tenacity.wait import wait_combine

__all__ = ["wait_for_first"]

_SHORTEST, _LONGEST = 0.01, 0.5
"""Seconds between two looks at the store: short at first, for a fetch takes a fraction of a second, and never so short
later that a thousand waiting processes would keep a store busy."""

_GROWTH = 1.25
"""Each pause is about a fifth of the wait so far, which is how much later than its leader a follower may start."""


def wait_for_first(look: Callable[[], bool], arrived: threading.Event, longest: float) -> bool:
    """Look until it succeeds or the time is over.

    Args:
        look: asks the store; True ends the wait.
        arrived: set when another thread of this process has brought definitions: then the next look comes at once.
        longest: seconds that the wait may take.

    Returns:
        Whether a look succeeded.
    """

    def fails(found: bool) -> bool:  # noqa: FBT001 - tenacity calls it with the result alone
        return not found

    retrying = Retrying(
        retry=retry_if_result(fails),
        stop=stop_after_delay(max(0.0, longest)),
        wait=wait_combine(wait_exponential(_SHORTEST, _LONGEST, _GROWTH), wait_random(0, _SHORTEST)),
        sleep=lambda seconds: arrived.wait(min(seconds, longest)),
    )
    try:
        return bool(retrying(look))
    except RetryError:
        return False
