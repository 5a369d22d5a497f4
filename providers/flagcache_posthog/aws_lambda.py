"""Updates functions that a serverless platform freezes between two invocations.

While a function is frozen no poller runs, and on many platforms the monotonic clock stops. So the definitions of a
thawed process may be hours old although no timer is due. Only the wall clock shows that.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from posthog import Posthog

from flagcache.errors import ConfigurationError
from flagcache.runtime.callers import wanting
from flagcache.runtime.guard import log_exceptions

__all__ = ["fresh"]

P = ParamSpec("P")
R = TypeVar("R")


def fresh(client: Posthog, *, max_age: float = 30.0) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a handler so that it starts with definitions from a poll at most `max_age` seconds ago.

    A later invocation first polls the cache, on its own thread: one round trip to the store if nothing changed. With
    `role="reader"` this takes at most `store_timeout`, and a store that is down is not called again until the next
    probe. In a worker whose fetch is due it takes as long as the fetch. A failure is logged, and the handler runs with
    what the client holds. If several invocations run at the same time, one polls and the others wait for its result.

    If PostHog did not confirm the definitions within `max_age`, a worker waits for a fetch under way, its own or
    another worker's, for at most the cache's `cold_start_wait`. `refresh_interval` still decides when a fetch is due.

    Args:
        client: created with a flagcache cache.
        max_age: seconds, by the wall clock, since this process last polled; 0: each invocation polls, and starts with
            what the store has then.

    Raises:
        ConfigurationError: `max_age` is not a valid duration.
    """
    freshness = _Freshness(client, _checked(max_age))

    def decorate(handler: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(handler)
        def with_fresh_flags(*args: P.args, **kwargs: P.kwargs) -> R:
            freshness.ensure()
            return handler(*args, **kwargs)

        return with_fresh_flags

    return decorate


class _Freshness:
    """When a client was last updated, by the wall clock."""

    def __init__(self, client: Posthog, max_age: float) -> None:
        self._client = client
        self._max_age = max_age
        self._polled_at = -math.inf
        self._polls = 0
        self._poll_lock = threading.Lock()

    def ensure(self) -> None:
        """Update the client if its last poll is too old.

        An invocation that waited for another one's poll asks again only if that poll began before it.
        """
        if self._is_recent(time.time()):
            return
        before = self._polls
        with self._poll_lock:
            if self._polls > before + 1 or (self._polls > before and self._is_recent(time.time())):
                return
            now = time.time()
            log_exceptions(
                self._poll, None, "", "updating a function's flags failed; the handler runs with what the client holds"
            )
            self._polled_at = now
            self._polls += 1

    def _is_recent(self, now: float) -> bool:
        """Whether the last poll is recent enough. If the clock was stepped back, it isn't."""
        return 0 <= now - self._polled_at < self._max_age

    def _poll(self) -> None:
        with wanting(self._max_age):
            self._run_poll()

    def _run_poll(self) -> None:
        """Run the client's own poll here and now; the first one starts its poller too."""
        poller = self._client.poller
        if poller is not None and poller.is_alive():
            poller.execute(*poller.args, **poller.kwargs)
        else:
            self._client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped


def _checked(max_age: object) -> float:
    if isinstance(max_age, bool) or not isinstance(max_age, (int, float)) or not 0 <= max_age < math.inf:
        raise ConfigurationError(f"max_age must be a number of seconds from 0, not {max_age!r}")
    return max_age
