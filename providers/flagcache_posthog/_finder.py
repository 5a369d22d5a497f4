"""Finds a client that calls its cache on another thread, through the user's own provider.

`_calling_client` finds every other client at once. Such a client is recognised by its flags: the very list that the
cache just returned or received is the `feature_flags` of a client whose `Poller` runs (public names, posthog 7.37.3 to
7.91.1). The SDK adopts definitions, and starts the poller, after our method has returned. So we look a little later, a
few times, on our own thread. A reader starts no thread, so we look when its cache is called again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from flagcache.runtime import process
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.process_lock import ProcessLock
from flagcache.worker.listener import listen_soon
from flagcache_posthog._orphan_pollers import client_of

if TYPE_CHECKING:
    from posthog.client import Client

__all__ = ["ClientFinder"]

_PAUSES = (*(0.005 * 2**number for number in range(6)), *(0.25 for _ in range(7)))
"""Seconds before each look, two in all. Hashing 20 MB of definitions takes the SDK 0.7 s; a client that takes longer
than all of this is found by its first poll."""

_LONGEST_END = 1.0
"""Seconds for which a shutdown waits for a search to end."""


class _HandOver(NamedTuple):
    """Flags that some thread took or gave; which client it loads is not known yet."""

    flags: object
    holders: frozenset[int]
    """`id` of each client that held them before: it is another one, unless it is loaded again."""


class _Search:
    """One thread that looks for clients."""

    def __init__(self, target: Callable[[_Search], None]) -> None:
        self.thread = threading.Thread(target=target, args=(self,), name="flagcache-finder", daemon=True)
        self.claimed: set[int] = set()
        """`id` of each client that it found: the one that another thread loads is another one."""
        self._running = threading.Lock()
        self._running.acquire()
        self._pid = os.getpid()

    @property
    def here(self) -> bool:
        """Whether it is of this process, and not of the one that forked it."""
        return os.getpid() == self._pid

    def goes_on(self, pause: float) -> bool:
        """Wait so many seconds; whether the search was not ended meanwhile."""
        ended = self._running.acquire(timeout=pause)
        return not ended and self.here  # a parent's greenlets go on in its child

    def end(self) -> None:
        """End it, and wait for that."""
        with suppress(RuntimeError):  # it was ended before
            self._running.release()
        if self.thread is not threading.current_thread() and self.thread.is_alive():
            self.thread.join(_LONGEST_END)


class ClientFinder:
    """Finds the clients of one cache.

    Args:
        take: attaches a client, unless it is attached. Never raises.
        namespace: of the cache, for the log.
        may_start_threads: whether to look on our own thread.
    """

    def __init__(self, take: Callable[[Client], None], namespace: str, *, may_start_threads: bool) -> None:
        self._take = take
        self._namespace = namespace
        self._may_start_threads = may_start_threads
        self._awaited: list[_HandOver] = []
        self._vain: object = None
        """`id` of the list of the last search that found nothing: it isn't searched again, so that the search ends."""
        self._looks: Iterator[float] = iter(())
        self._search: _Search | None = None
        self._lock = ProcessLock()
        process.at_fork(self)

    def called(self) -> None:
        """The cache is called. A reader has no thread, so it looks now."""
        if self._awaited and not self._may_start_threads:
            self._look(set())
            self._awaited = []

    def handed_over(self, flags: object, *, received: bool) -> None:
        """The calling thread was given these flags, or gave them: the client that it loads is to be found by them.

        Args:
            flags: the very list.
            received: it gave them. Then its client has adopted them already, and is there if its poller runs.
        """
        if not flags or id(flags) == self._vain:
            return
        holding = [client for client in _polling_clients() if client.feature_flags is flags]
        for client in holding:
            self._take(client)
        if not (received and holding):
            self._await(flags, frozenset(map(id, holding)))

    def _await(self, flags: object, holders: frozenset[int]) -> None:
        with self._lock:
            if not any(flags is other.flags for other in self._awaited):
                self._looks = iter(_PAUSES)
            self._awaited.append(_HandOver(flags, holders))
            if self._may_start_threads and not (self._search is not None and self._search.here):
                self._start()

    def end(self) -> None:
        """End the search under way."""
        search, self._search, self._awaited = self._search, None, []
        if search is not None:
            search.end()

    def forked(self) -> None:
        """In a forked child: go on with what the parent was looking for when it forked."""
        self._search = None
        if self._awaited and self._may_start_threads:
            self._looks = iter(_PAUSES)
            listen_soon(self._start, self._namespace)

    def _start(self) -> None:
        search = self._search = _Search(self._run)
        try:
            search.thread.start()
        except RuntimeError:  # the system refuses a thread: the client's first poll will identify it
            self._search, self._awaited = None, []

    def _run(self, search: _Search) -> None:
        what = "the search for a cache's clients failed: their polls show them"
        log_exceptions(lambda: self._look_often(search), None, self._namespace, what)

    def _look_often(self, search: _Search) -> None:
        while (pause := self._next_pause(search)) is not None and search.goes_on(pause):
            self._look(search.claimed)

    def _next_pause(self, search: _Search) -> float | None:
        """Seconds until the next look; None if the search is over."""
        with self._lock:
            pause = next(self._looks, None) if self._awaited else None
            if pause is None and self._search is search:
                if self._awaited and not search.claimed:
                    self._vain = id(self._awaited[-1].flags)
                self._search, self._awaited = None, []
            return pause

    def _look(self, claimed: set[int]) -> None:
        for client in _polling_clients():
            flags = client.feature_flags
            for awaited in self._awaited:
                if awaited.flags is flags and id(client) not in claimed | awaited.holders:
                    claimed.add(id(client))
                    self._take(client)
                    self._found(awaited)

    def _found(self, awaited: _HandOver) -> None:
        with self._lock:
            self._awaited = [other for other in self._awaited if other is not awaited]


def _polling_clients() -> list[Client]:
    """The clients whose pollers run in this process, whatever cache they use.

    A thread is listed before it lives, and must not be taken for one that has ended.
    """
    known = [(thread, client_of(thread)) for thread in threading.enumerate() if thread.is_alive()]
    return [client for thread, client in known if client is not None and client.poller is thread]
