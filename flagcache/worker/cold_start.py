"""The wait of a process at its first load: one wait, limited, with short, random, growing pauses.

One thread polls and the others wait for it; `flagcache.worker.first_load` says what for. Invariant: the wait doesn't
end without a result while a poll could still succeed, and doesn't begin again after its end.

Importing tenacity takes a fifth of a cache's import time. We still don't import it at the first wait, which is on a
thread of the SDK, also in the parent of a preloading server: a child that is forked while another thread imports a
module finds that module's lock held forever (Python 3.10 to 3.13).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from tenacity import RetryError, Retrying, retry_if_result

from flagcache.core.first_load import pause
from flagcache.runtime.clock import monotonic
from flagcache.runtime.threads import make_event

__all__ = ["ColdStart"]


class ColdStart:
    """The one wait of one process."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._arrived = make_event()

    def arrived(self) -> None:
        """Another thread of this process got definitions: check at once."""
        self._arrived.set()

    def wait(self, condition: Callable[[], bool], longest: float, clock: Callable[[], float]) -> bool:
        """Check the condition until it is true or the time is over.

        Args:
            condition: polls the store; True ends the wait.
            longest: seconds that the wait may still take.
            clock: this process's own clock, in seconds.

        Returns:
            Whether the condition became true.
        """
        deadline = clock() + longest
        if longest <= 0 or not self._one_at_a_time.acquire(timeout=longest):
            return False
        try:
            return self._wait(condition, deadline, clock)
        finally:
            self._one_at_a_time.release()

    def _wait(self, condition: Callable[[], bool], deadline: float, clock: Callable[[], float]) -> bool:
        def checked() -> bool:
            self._arrived.clear()
            return condition()

        def sleep(seconds: float) -> None:
            self._arrived.wait(max(0.0, min(seconds, deadline - clock())))

        until = monotonic() + max(0.0, deadline - clock())
        retrying = Retrying(
            retry=retry_if_result(lambda found: not found),
            stop=lambda _state: monotonic() >= until,  # tenacity's own uses `time`, which tests may freeze
            wait=lambda state: pause(state.attempt_number, random.random()),
            sleep=sleep,
        )
        try:
            return bool(retrying(checked))
        except RetryError:
            return False
