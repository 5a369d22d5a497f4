"""Limits the pushes of a process: some notices are acted on at once, the others a little later, together.

Each push is a poll of every attached client, and any client of the store with the right to publish can ask for one. A
token bucket limits them. Notices that come while the bucket is empty are not lost: one push follows once a token is
back.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Protocol

from flagcache.clients import Client
from flagcache.core.token_bucket import TokenBucket
from flagcache.runtime.guard import log_exceptions

__all__ = ["Pushes", "bring_up_to_date"]

_BURST = 5
"""How many pushes may follow one another at once."""

_PERIOD = 1.0
"""Seconds until one more push may follow; half a refresh interval if that is shorter."""


class MakePush(Protocol):
    """Brings every attached client up to date."""

    def __call__(self, *, contend: bool) -> None:
        """Push; `contend` also for the lease."""
        ...


class Pushes:
    """The pushes of one process. Used by the listener's thread alone.

    Args:
        interval: seconds between two fetches of the fleet.
        clock: this process's own.
    """

    def __init__(self, interval: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bucket = TokenBucket(_BURST, min(_PERIOD, interval / 2))
        self._contend: bool | None = None
        """Whether the pending push contends for the lease; None: no push is pending."""

    def ask(self, push: MakePush, *, contend: bool) -> None:
        """Push now, or once a token is back."""
        self._contend = contend or bool(self._contend)
        self.make(push)

    @property
    def due_at(self) -> float:
        """When the pending push is due; `math.inf`: none is pending."""
        return math.inf if self._contend is None else self._bucket.ready_at

    def make(self, push: MakePush) -> None:
        """Make the pending push, if there is one and a token is left."""
        now, contend = self._clock(), self._contend
        if contend is not None and now >= self._bucket.ready_at:
            self._bucket, self._contend = self._bucket.taken(now), None
            push(contend=contend)


def bring_up_to_date(client: Client, namespace: str) -> None:
    """Run a client's own poll. A poll that ends its thread would end the SDK's poller; it must not end the listener."""
    with contextlib.suppress(SystemExit):
        log_exceptions(client.poll, None, namespace, "pushing to a client failed: its next poll updates it")
