"""Whether the calling thread is inside a call of a cache: the user's code that it calls may call the cache again.

An `on_event`, or a logging filter, may evaluate a flag, which asks the cache for definitions that this very thread is
about to bring. Such a call must not wait for them.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from flagcache.runtime.threads import PerThread

__all__ = ["Inside"]


class _Thread:
    inside = False


class Inside:
    """For one cache: which threads are inside a call."""

    def __init__(self) -> None:
        self._thread = PerThread(_Thread)

    @property
    def now(self) -> bool:
        """Whether the calling thread is inside a call of the cache."""
        return self._thread().inside

    @contextmanager
    def entered(self) -> Generator[None]:
        """Inside the `with` block the calling thread counts as inside a call."""
        yield from self._set(now=True)

    @contextmanager
    def left(self) -> Generator[None]:
        """Inside the `with` block it doesn't, because it runs a client's poll, which calls the cache from outside."""
        yield from self._set(now=False)

    def _set(self, *, now: bool) -> Generator[None]:
        thread = self._thread()
        before, thread.inside = thread.inside, now
        try:
            yield
        finally:
            thread.inside = before
