"""A call of code that isn't ours, with a time limit for its callers.

Nothing can end a look-up of a name, or a call of the user's credential provider. So it runs on a separate thread, and a
caller whose time is over continues without it.
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
    """A call takes longer than its caller may wait; the text names the call."""


class BackgroundCall(Generic[_T]):
    """One call, made once, for which several threads may wait. If the system refuses a thread, `start` runs it.

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
        """When it ended, by this process's clock; None while it runs."""

    @property
    def failed(self) -> bool:
        """Whether it ended with an exception."""
        return self._error is not None

    def start(self) -> None:
        """Start the call."""
        if try_start(threading.Thread(target=self._run, name=f"flagcache-{self._name}", daemon=True)):
            self._run()

    def wait(self, longest: float | None, what: str) -> _T:
        """Wait until it ends; return what it returned, or raise what it raised.

        Args:
            longest: seconds; None: no limit.
            what: what the call does, for the error.

        Raises:
            SlowCallError: it takes longer. The call continues.
        """
        if not self._over.wait(longest):
            raise SlowCallError(f"{what} takes longer than {longest:.3g} s")
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._context.run(self._call))
        except BaseException as exc:  # noqa: BLE001 - raised in the threads that wait
            self._error = exc
        finally:
            self.ended_at = monotonic()
            self._over.set()
