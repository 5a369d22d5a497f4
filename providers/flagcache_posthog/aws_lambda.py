"""Functions that a serverless platform freezes between two invocations: up to date when the next one begins.

While a function is frozen no poller runs, and on many platforms the monotonic clock stands still; so what a thawed
process holds may be hours old although every timer says that nothing is due. The wall clock tells.
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
from flagcache.runtime.guard import guarded

__all__ = ["fresh"]

P = ParamSpec("P")
R = TypeVar("R")


def fresh(client: Posthog, *, max_age: float = 30.0) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a handler so that it begins with definitions that were asked for at most `max_age` seconds ago.

    An invocation that comes later than that asks the cache first, on its own thread: one round trip to the store where
    nothing changed. With a cache of `role="reader"` that takes no longer than its `store_timeout`, and a store that was
    found to be away is not waited for again until it is probed; in a worker that is due to fetch, as long as the fetch.
    Whatever goes wrong is logged, and the handler runs with what the client holds. Of invocations that run at the same
    time one asks, and the others wait for its answer.

    A worker waits for a fetch under way, its own or another worker's, if PostHog did not confirm within `max_age` what
    there is; at most for the cache's `cold_start_wait`. Whether a fetch is due is still for `refresh_interval` to say.

    Args:
        client: made with a cache of flagcache.
        max_age: seconds, by the wall clock, since this process last asked; 0: each invocation asks, and begins with
            what the store has then.

    Raises:
        ConfigurationError: `max_age` is no length of time.
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
    """When a client was last brought up to date, by the wall clock."""

    def __init__(self, client: Posthog, max_age: float) -> None:
        self._client = client
        self._max_age = max_age
        self._asked_at = -math.inf
        self._questions = 0
        self._one_asks = threading.Lock()

    def ensure(self) -> None:
        """Bring the client up to date, if it is long since it was.

        An invocation that waited for another one's poll asks again only if that poll began before it.
        """
        if self._is_recent(time.time()):
            return
        before = self._questions
        with self._one_asks:
            if self._questions > before + 1 or (self._questions > before and self._is_recent(time.time())):
                return
            now = time.time()
            guarded(self._ask, None, "a function could not bring its flags up to date", "")
            self._asked_at = now
            self._questions += 1

    def _is_recent(self, now: float) -> bool:
        """Whether the last question is young enough. A clock that was stepped back tells nothing."""
        return 0 <= now - self._asked_at < self._max_age

    def _ask(self) -> None:
        with wanting(self._max_age):
            self._bring_up_to_date()

    def _bring_up_to_date(self) -> None:
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
