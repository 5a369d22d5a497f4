"""The fleet's own fetch: one at a time in a process, on a separate thread.

A provider call waits for the fetch for a short time. A later result reaches the clients by push. The request has the
entity tag of definitions that this process holds, so "unchanged" always refers to them
(`flagcache.worker.entity_tags`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from flagcache.core.fetches import confirmed, failure_of, fetched
from flagcache.core.knowledge import Held
from flagcache.core.schedule import HEARTBEAT
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.threads import make_event, try_start
from flagcache.stores.base import Grant, Scope
from flagcache.vendor import Fetched, Fetcher, FetchResult, Refused, Unchanged
from flagcache.worker.config import CacheConfig
from flagcache.worker.entity_tags import EntityTags
from flagcache.worker.grants import PollOutcome
from flagcache.worker.publish import Publisher

__all__ = ["FetchThread"]

_SDK_TIMEOUT = 10.0
"""Seconds that the SDK waits for an answer (posthog 7.91, `client.py`, `_request_flag_definitions`)."""

_LOOKS = 0.005
"""Seconds between two looks at whether a fetch has ended."""


class FetchThread:
    """Fetches for one process.

    Args:
        config: what all processes of the cache have in common.
        publisher: publishes the results.
        arrived: called after each fetch, on its thread, before the threads that wait for it are woken.
        over: called when these threads are woken.
    """

    def __init__(
        self, config: CacheConfig, publisher: Publisher, arrived: Callable[[], None], over: Callable[[], None]
    ) -> None:
        self._config = config
        self._publisher = publisher
        self._arrived = arrived
        self._over = over
        self.requests = self.full = 0
        self._began = 0.0
        self._ended = make_event()
        self._ended.set()
        self._fetcher: Fetcher | None = None
        self._thread: threading.Thread | None = None
        self._cancelled = False
        self._tags = EntityTags()

    @property
    def busy(self) -> bool:
        """Whether a fetch is under way."""
        return not self._ended.is_set()

    def start(self, outcome: PollOutcome, grant: Grant, fetcher: Fetcher) -> None:
        """Fetch once, on a new thread. Call it only if no fetch is under way.

        If the system refuses the thread, the fetch has failed: this process gives up the lease and backs off.
        """
        self._cancelled = False
        self._began = outcome.asked_at
        self._fetcher = fetcher
        args = (outcome, grant, fetcher)
        self._thread = thread = threading.Thread(target=self._run, args=args, name="flagcache-fetch", daemon=True)
        try:
            self._ended.clear()
            why = try_start(thread)
        except BaseException:  # a signal handler's
            if thread.ident is None:
                self._ended.set()
            raise
        if why:
            self._thread = None
            refused = Refused(f"no thread for the fetch: {why}", Scope.MINE)
            self._finish(lambda: self._publisher.fail(outcome.store_name, grant, refused))

    def wait(self, longest: float, keep_lease: Callable[[], None]) -> None:
        """Wait for the fetch under way, at most `longest` seconds, and keep the lease meanwhile."""
        until = self._config.clock() + longest
        while (left := until - self._config.clock()) > 0 and not self._ended.wait(min(left, HEARTBEAT / 4)):
            keep_lease()

    def wait_for_end(self, longest: float) -> None:
        """Let the fetch under way end, so that a process that exits early doesn't leave the fetch to the next one.

        Waits at most `longest` seconds, and no longer than the vendor's SDK would wait for a response. It looks
        repeatedly instead of waiting for the event: a signal handler may have interrupted a thread that holds its lock.
        """
        until = min(self._config.clock() + longest, self._began + _SDK_TIMEOUT)
        while self.busy and self._config.clock() < until and self._thread is not threading.current_thread():
            threading.Event().wait(_LOOKS)

    def cancel(self, longest: float) -> None:
        """End the fetch under way; its result is not used. Waits at most `longest` seconds for its thread."""
        fetcher, thread = self._fetcher, self._thread
        if fetcher is not None and self.busy:
            self._cancelled = True
            fetcher.cancel()
        if thread is None or thread is threading.current_thread():
            return
        # Wait first: another thread may have created it without having started it, and such a thread can't be joined.
        if self._ended.wait(longest) and thread.is_alive():
            thread.join(longest)

    def _run(self, outcome: PollOutcome, grant: Grant, fetcher: Fetcher) -> None:
        with self._config.inside.entered():
            self._finish(lambda: self._fetch(outcome, grant, fetcher))

    def _finish(self, take_in: Callable[[], None]) -> None:
        """Handle the result of a fetch. After that the fetch is over, even if this fails."""
        try:
            log_exceptions(take_in, None, self._config.namespace, "fetch thread failed")
        finally:
            self._fetcher = None
            try:
                log_exceptions(self._arrived, None, self._config.namespace, "handling the result of a fetch failed")
            finally:
                self._ended.set()
                log_exceptions(self._over, None, self._config.namespace, "releasing the lease after a fetch failed")

    def _fetch(self, outcome: PollOutcome, grant: Grant, fetcher: Fetcher) -> None:
        held = self._publisher.held
        etag = self._tags.for_request(held.meta if held else None, grant.epoch)
        result = self._request(fetcher, etag)
        if isinstance(result, Fetched):
            self.full += 1
            self._publisher.malformed(result.malformed)
            self._publisher.publish(self._fetched(result, outcome, grant, held), grant)
        elif isinstance(result, Refused) and self._cancelled and result.scope is Scope.MINE:
            self._publisher.abandon(outcome.store_name, grant, result)
        elif (failure := failure_of(result, held, etag)) is not None:
            self._publisher.fail(outcome.store_name, grant, failure)
        elif held is not None:
            self._publisher.confirm(confirmed(held, outcome.store_name, grant, outcome.asked_at), grant)

    def _request(self, fetcher: Fetcher, etag: str) -> FetchResult:
        if self._cancelled:  # before the request
            return Refused("cancelled", Scope.MINE)
        self.requests += 1
        result = fetcher.fetch(etag)
        if not isinstance(result, Unchanged):
            self.requests += result.requests - 1  # an unconditional request may have been repeated
        return result

    def _fetched(self, result: Fetched, outcome: PollOutcome, grant: Grant, held: Held | None) -> Held:
        brought = self._publisher.as_held(result.definitions, outcome, grant, etag=result.etag)
        self._tags.received(brought.meta.version, result.etag)
        return fetched(brought, held)
