"""A call of code that isn't ours, for which callers wait no longer than they may.

A look-up of a name, or the user's credential provider, takes as long as it takes, and nothing can end it. So it runs on
a thread of its own, and a caller whose time is over goes on without it.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from flagcache.runtime.clock import monotonic
from flagcache.runtime.threads import make_event, try_start

__all__ = ["BackgroundCall", "SlowCallError"]

_T = TypeVar("_T")


class SlowCallError(TimeoutError):
    """A call takes longer than its caller may wait; its text says which."""


class BackgroundCall(Generic[_T]):
    """One call, made once, for which several threads may wait. If the system gives no thread, `start` makes it.

    Args:
        call: what to call, in the context (`contextvars`) of the thread that makes this.
        name: what the thread is for.
    """

    def __init__(self, call: Callable[[], _T], name: str) -> None:
        self._call = call
        self._name = name
        self._context = contextvars.copy_context()
        self._over = make_event()
        self._results: list[_T] = []
        self._error: BaseException | None = None
        self.ended_at: float | None = None
        """Own clock when it ended; None while it is under way."""

    @property
    def failed(self) -> bool:
        """Whether it ended with an exception."""
        return self._error is not None

    def start(self) -> None:
        """Begin."""
        if try_start(threading.Thread(target=self._run, name=f"flagcache-{self._name}", daemon=True)):
            self._run()

    def wait(self, longest: float | None, what: str) -> _T:
        """Wait until it is over; return what it returned, or raise what it raised.

        Args:
            longest: seconds; None: without a bound.
            what: it does, for people.

        Raises:
            SlowCallError: it takes longer. It goes on.
        """
        if not self._over.wait(longest):
            raise SlowCallError(f"{what} takes longer than {longest:.3g} s")
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._context.run(self._call))
        except BaseException as exc:  # noqa: BLE001 - whoever waits gets it
            self._error = exc
        finally:
            self.ended_at = monotonic()
            self._over.set()
