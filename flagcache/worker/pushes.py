"""The pushes of a process: made at once, or a little later, together. `flagcache.core.pushes` decides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from flagcache.clients import Client
from flagcache.core.pushes import PendingPush
from flagcache.runtime.guard import log_exceptions

__all__ = ["Pushes", "bring_up_to_date"]


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
        self._pending = PendingPush.none(interval)

    def ask(self, push: MakePush, *, contend: bool) -> None:
        """Push now, or once a token is back."""
        self._pending = self._pending.asked(contend=contend)
        self.make(push)

    @property
    def due_at(self) -> float:
        """When the pending push is due; `math.inf`: none is pending."""
        return self._pending.due_at

    def make(self, push: MakePush) -> None:
        """Make the pending push, if there is one and a token is left."""
        now, pending = self._clock(), self._pending
        if now >= pending.due_at:
            self._pending = pending.made(now)
            push(contend=bool(pending.contend))


def bring_up_to_date(client: Client, namespace: str) -> None:
    """Run a client's own poll. A poll that ends its thread would end the SDK's poller; it must not end the listener."""
    with contextlib.suppress(SystemExit):
        log_exceptions(client.poll, None, namespace, "pushing to a client failed: its next poll updates it")
