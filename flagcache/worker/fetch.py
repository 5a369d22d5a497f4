"""The fleet's own fetch: one at a time in a process, on a thread of its own, and what its result means.

A provider call may wait for it a little; the result reaches the clients by push when it comes later. The entity tag
sent is that of definitions which this process holds decoded, so that "unchanged" always speaks of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from flagcache.core.knowledge import Held
from flagcache.encoding import payload as envelope
from flagcache.runtime.guard import guarded
from flagcache.stores.base import Grant, Meta, Scope
from flagcache.vendor import Fetched, Fetcher, FetchResult, Refused
from flagcache.worker.config import Plan
from flagcache.worker.grants import Errand
from flagcache.worker.publish import Reports

__all__ = ["Fetching"]


class Fetching:
    """Fetches for one process.

    Args:
        plan: what all processes of the cache have in common.
        reports: takes the results.
        arrived: called after each fetch, on its thread, before those are woken who wait for the fetch.
    """

    def __init__(self, plan: Plan, reports: Reports, arrived: Callable[[], None]) -> None:
        self._plan = plan
        self._reports = reports
        self._arrived = arrived
        self.requests = self.full = 0
        self._landed = threading.Event()
        self._landed.set()
        self._fetcher: Fetcher | None = None
        self._thread: threading.Thread | None = None
        self._called_off = False

    @property
    def busy(self) -> bool:
        """Whether a fetch is under way."""
        return not self._landed.is_set()

    def begin(self, errand: Errand, grant: Grant, fetcher: Fetcher) -> None:
        """Fetch once, on a new thread. Only when none is under way."""
        self._landed.clear()
        self._called_off = False
        self._fetcher = fetcher
        self._thread = threading.Thread(
            target=self._run, args=(errand, grant, fetcher), name="flagcache-fetch", daemon=True
        )
        self._thread.start()

    def wait(self, longest: float) -> None:
        """Wait for the fetch under way, at most so many seconds."""
        self._landed.wait(longest)

    def cancel(self, longest: float) -> None:
        """End the fetch under way; its result counts for nothing. Waits at most so many seconds for its thread."""
        fetcher, thread = self._fetcher, self._thread
        if fetcher is not None and self.busy:
            self._called_off = True
            fetcher.cancel()
        if thread is None or thread is threading.current_thread():
            return
        # Not joined before: another thread may have made it, and not started it yet.
        if self._landed.wait(longest) and thread.is_alive():
            thread.join(longest)

    def _run(self, errand: Errand, grant: Grant, fetcher: Fetcher) -> None:
        try:
            guarded(lambda: self._fetch(errand, grant, fetcher), None, "a fetch could not be brought home")
        finally:
            self._fetcher = None
            try:
                guarded(self._arrived, None, "a fetch could not be announced")
            finally:
                self._landed.set()

    def _fetch(self, errand: Errand, grant: Grant, fetcher: Fetcher) -> None:
        held = self._reports.held
        result = self._ask(fetcher, held.meta.etag if held else "")
        if isinstance(result, Fetched):
            self.full += 1
            self._reports.fetched(self._hold(result, errand, grant, held), grant)
        elif isinstance(result, Refused) and self._called_off and result.scope is Scope.MINE:
            self._reports.called_off(errand.home, grant, result)
        elif isinstance(result, Refused):
            self._reports.refused(errand.home, grant, result)
        elif held is not None:
            self._reports.confirmed(_confirmed(held, errand, grant), grant)
        else:
            self._reports.refused(errand.home, grant, Refused("304 to an unconditional request", Scope.MINE, 304))

    def _ask(self, fetcher: Fetcher, etag: str) -> FetchResult:
        if self._called_off:  # before it began
            return Refused("cancelled", Scope.MINE)
        self.requests += 1
        return fetcher.fetch(etag)

    def _hold(self, result: Fetched, errand: Errand, grant: Grant, held: Held | None) -> Held:
        version = envelope.digest(result.definitions)
        same = held is not None and held.meta.version == version
        meta = Meta(
            version=version,
            epoch=grant.epoch,
            as_of=grant.as_of,
            changed_at=held.meta.changed_at if same and held else self._reports.changed_at(errand.home, version, grant),
            confirmed_at=grant.at,
            etag=result.etag,
            writer=self._plan.vendor.writer,
            project=self._plan.vendor.project(result.definitions),
        )
        # Of the same content the objects that the clients already use are kept: nothing is hashed or copied anew.
        definitions = held.definitions if same and held else result.definitions
        return Held(meta, definitions, errand.home, errand.began, accepted=False)


def _confirmed(held: Held, errand: Errand, grant: Grant) -> Held:
    meta = held.meta._replace(epoch=grant.epoch, as_of=grant.as_of, confirmed_at=grant.at)
    return Held(meta, held.definitions, errand.home, errand.began, accepted=False)
