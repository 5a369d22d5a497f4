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
        self._one_looks = threading.Lock()
        self._arrived = make_event()

    def arrived(self) -> None:
        """Another thread of this process got definitions: look at once."""
        self._arrived.set()

    def wait(self, look: Callable[[], bool], longest: float, clock: Callable[[], float]) -> bool:
        """Look until it succeeds or the time is over.

        Args:
            look: polls the store; True ends the wait.
            longest: seconds that the wait may still take.
            clock: this process's own clock, in seconds.

        Returns:
            Whether a look succeeded.
        """
        deadline = clock() + longest
        if longest <= 0 or not self._one_looks.acquire(timeout=longest):
            return False
        try:
            return self._look(look, deadline, clock)
        finally:
            self._one_looks.release()

    def _look(self, look: Callable[[], bool], deadline: float, clock: Callable[[], float]) -> bool:
        def look_again() -> bool:
            self._arrived.clear()
            return look()

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
            return bool(retrying(look_again))
        except RetryError:
            return False
