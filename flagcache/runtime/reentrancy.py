"""Whether the calling thread is at work in a cache: what it calls of the user's code may call the cache again.

An `on_event`, or a filter of the log, may evaluate a flag, which asks the cache for what that very thread is about to
bring. Such a call must not wait for it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from flagcache.runtime.threads import PerThread

__all__ = ["Inside"]


class _Thread:
    inside = False


class Inside:
    """One cache's note of each thread."""

    def __init__(self) -> None:
        self._thread = PerThread(_Thread)

    @property
    def now(self) -> bool:
        """Whether the calling thread is at work in the cache."""
        return self._thread().inside

    @contextmanager
    def entered(self) -> Generator[None]:
        """While this lasts, the calling thread is at work in the cache."""
        yield from self._set(now=True)

    @contextmanager
    def left(self) -> Generator[None]:
        """While this lasts it is not: it runs a client's poll, which calls the cache as others do."""
        yield from self._set(now=False)

    def _set(self, *, now: bool) -> Generator[None]:
        thread = self._thread()
        before, thread.inside = thread.inside, now
        try:
            yield
        finally:
            thread.inside = before
