"""Finds a client that calls its cache on another thread, through the user's own provider.

`_calling_client` finds every other client at once. Such a client is recognised by its flags: the list object that the
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
"""Seconds before each search, two in total. The SDK hashes 20 MB of definitions in 0.7 s; a client that takes longer
than two seconds is found by its first poll."""

_MAX_END_WAIT = 1.0
"""Seconds for which a shutdown waits for a search to end."""


class _HandOver(NamedTuple):
    """Flags that a thread took or gave, and whose client isn't known yet."""

    flags: object
    excluded: frozenset[int]
    """`id` of each client that had them before: the client we look for is another one."""


class _Search:
    """One thread that searches for clients."""

    def __init__(self, target: Callable[[_Search], None]) -> None:
        self.thread = threading.Thread(target=target, args=(self,), name="flagcache-finder", daemon=True)
        self.claimed: set[int] = set()
        """`id` of each client that it found, so that each pending hand-over gets its own client."""
        self._running = threading.Lock()
        self._running.acquire()
        self._pid = os.getpid()

    @property
    def in_this_process(self) -> bool:
        """Whether it belongs to this process, and not to the parent that forked it."""
        return os.getpid() == self._pid

    def wait(self, pause: float) -> bool:
        """Wait `pause` seconds; return False if the search was ended."""
        ended = self._running.acquire(timeout=pause)
        return not ended and self.in_this_process  # a parent's greenlets continue in its child

    def end(self) -> None:
        """End the search, and wait until its thread has ended."""
        with suppress(RuntimeError):  # it has already been ended
            self._running.release()
        if self.thread is not threading.current_thread() and self.thread.is_alive():
            self.thread.join(_MAX_END_WAIT)


class ClientFinder:
    """Finds the clients of one cache.

    Args:
        attach: attaches a client, unless it is attached. Never raises.
        namespace: the cache's namespace, for the log.
        may_start_threads: whether to search on our own thread.
    """

    def __init__(self, attach: Callable[[Client], None], namespace: str, *, may_start_threads: bool) -> None:
        self._attach = attach
        self._namespace = namespace
        self._may_start_threads = may_start_threads
        self._pending: list[_HandOver] = []
        self._exhausted: object = None
        """`id` of the list for which the last search found no client; we don't search for it again."""
        self._pauses: Iterator[float] = iter(())
        self._search: _Search | None = None
        self._lock = ProcessLock()
        process.at_fork(self)

    def called(self) -> None:
        """Search now if this is a reader, which has no thread; called at each call of the cache."""
        if self._pending and not self._may_start_threads:
            self._search_once(set())
            self._pending = []

    def handed_over(self, flags: object, *, received: bool) -> None:
        """Search for the client that the calling thread loads, by the flags that it took or gave.

        Args:
            flags: the list object.
            received: the thread gave them, so its client has already adopted them, and is found now if its poller runs.
        """
        if not flags or id(flags) == self._exhausted:
            return
        holders = [client for client in _polling_clients() if client.feature_flags is flags]
        for client in holders:
            self._attach(client)
        if not (received and holders):
            self._add(flags, frozenset(map(id, holders)))

    def _add(self, flags: object, excluded: frozenset[int]) -> None:
        with self._lock:
            if not any(flags is other.flags for other in self._pending):
                self._pauses = iter(_PAUSES)
            self._pending.append(_HandOver(flags, excluded))
            if self._may_start_threads and not (self._search is not None and self._search.in_this_process):
                self._start_search()

    def end(self) -> None:
        """End the current search."""
        search, self._search, self._pending = self._search, None, []
        if search is not None:
            search.end()

    def forked(self) -> None:
        """Continue the parent's search in a forked child."""
        self._search = None
        if self._pending and self._may_start_threads:
            self._pauses = iter(_PAUSES)
            listen_soon(self._start_search, self._namespace)

    def _start_search(self) -> None:
        search = self._search = _Search(self._run)
        try:
            search.thread.start()
        except RuntimeError:  # the system refuses a thread: the client's first poll will identify it
            self._search, self._pending = None, []

    def _run(self, search: _Search) -> None:
        message = "the search for clients failed; a client will be found by its first poll"
        log_exceptions(lambda: self._search_repeatedly(search), None, self._namespace, message)

    def _search_repeatedly(self, search: _Search) -> None:
        while (pause := self._next_pause(search)) is not None and search.wait(pause):
            self._search_once(search.claimed)

    def _next_pause(self, search: _Search) -> float | None:
        """Return the seconds until the next search; None if there is none."""
        with self._lock:
            pause = next(self._pauses, None) if self._pending else None
            if pause is None and self._search is search:
                if self._pending and not search.claimed:
                    self._exhausted = id(self._pending[-1].flags)
                self._search, self._pending = None, []
            return pause

    def _search_once(self, claimed: set[int]) -> None:
        for client in _polling_clients():
            flags = client.feature_flags
            for pending in self._pending:
                if pending.flags is flags and id(client) not in claimed | pending.excluded:
                    claimed.add(id(client))
                    self._attach(client)
                    self._found(pending)

    def _found(self, pending: _HandOver) -> None:
        with self._lock:
            self._pending = [other for other in self._pending if other is not pending]


def _polling_clients() -> list[Client]:
    """Return the clients whose pollers run in this process, whatever cache they use.

    `threading.enumerate` also lists threads that are just starting, which are not alive yet.
    """
    known = [(thread, client_of(thread)) for thread in threading.enumerate() if thread.is_alive()]
    return [client for thread, client in known if client is not None and client.poller is thread]
