"""The first load of a process: what it waits for, and what it starts with when the wait is over.

`flagcache.core.first_load` decides; this module polls the stores. Invariant: a push never waits, and a process that
holds definitions waits only while some worker is fetching, or, with a key, for a signature.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from flagcache.core.first_load import (
    contends,
    ends_at,
    is_first_load,
    may_start_with,
    nothing_to_wait_for,
    waits_for_newer,
    waits_for_proof,
)
from flagcache.runtime.callers import Caller, caller, thread_record
from flagcache.worker.cold_start import ColdStart
from flagcache.worker.config import CacheConfig
from flagcache.worker.last_known_good import LastKnownGood
from flagcache.worker.state import ProcessState

__all__ = ["FirstLoad", "PollsStores"]


class PollsStores(Protocol):
    """The worker, as the first load needs it."""

    @property
    def granted(self) -> bool:
        """Whether the calling thread may fetch."""
        ...

    @property
    def fetching(self) -> bool:
        """Whether the fleet's own fetch is under way in this process."""
        ...

    def poll(self, *, contend: bool) -> None:
        """Poll the stores; `contend`: also for the lease and a grant."""
        ...

    def keep_lease(self) -> None:
        """Renew the lease in time, if this process has it and its fetch is under way."""
        ...


class FirstLoad:
    """The first load of one process: what it waits for, and for how long.

    Args:
        config: what all processes of the cache have in common.
        state: what this process knows.
        last_known_good: loads the fallback file.
        worker: polls and fetches.
    """

    def __init__(
        self, config: CacheConfig, state: ProcessState, last_known_good: LastKnownGood, worker: PollsStores
    ) -> None:
        self._config = config
        self._state = state
        self._last_known_good = last_known_good
        self._worker = worker
        self._wait = ColdStart()

    def arrived(self) -> None:
        """Definitions arrived, or a fetch of this process ended: poll at once."""
        self._wait.arrived()

    def over(self) -> None:
        """Definitions were returned, or fetched by the vendor's SDK: later loads don't wait for newer ones."""
        if not self._state.know.loaded:
            self._state.update(lambda know: know._replace(loaded=True))

    def may_go_on(self) -> bool:
        """Whether a client that loads need not wait for the fetch that this process has just started."""
        know, clients = self._state.know, self._config.clients
        loads = clients.asking(thread_record()) is None and any(client.polling is None for client in clients.live)
        may_start = know.held is not None or not self._config.settings.cold_start_wait
        return loads and is_first_load(know) and may_start and not self._wants_newer()

    def wait(self, who: Caller) -> None:
        """Wait for definitions with which the calling thread's client may start. A push never waits."""
        know = self._state.know
        if know.loaded and know.held is not None and who.max_age is None:
            return  # as at almost every poll
        now = self._config.clock()
        if know.held is None:
            if not know.gave_up_waiting and know.waiting_since is not None:  # else there is no store to wait for
                self._wait_for_first(know.waiting_since)
        elif self._wants_newer():
            self._wait_until(self._newer_came, ends_at(know, self._config.settings, now))
        if self._state.know.held is not None or not self._worker.granted:
            self.over()

    def _wants_newer(self) -> bool:
        """Whether what is held is too old for the calling thread, and a fetch is under way or needed as a proof."""
        know, worker = self._state.know, self._worker
        who, first = caller(), is_first_load(know)
        max_age = who.max_age
        if max_age is None:
            max_age = self._config.settings.first_load_max_age if first else None
        if max_age is None or self._config.clients.on_behalf or worker.granted:
            return False
        store_name, now = self._state.stores.in_charge.store_name, self._config.clock()
        if may_start_with(know, max_age, now, asked_at=who.asked_at):
            return False
        if waits_for_newer(know, store_name, fetching=worker.fetching):
            return True
        return self._config.clients.can_fetch and waits_for_proof(know, store_name, self._config.stale_after, now)

    def _newer_came(self) -> bool:
        if not self._wants_newer():
            return True  # another thread's poll has ended the wait for all
        if self._worker.fetching:
            self._worker.keep_lease()
        else:
            self._poll()
        return not self._wants_newer()

    def _poll(self) -> None:
        self._worker.poll(contend=contends(self._state.know, can_fetch=self._config.clients.can_fetch))

    def _wait_until(self, condition: Callable[[], bool], until: float) -> None:
        self._wait.wait(condition, until - self._config.clock(), self._config.clock)

    def _wait_for_first(self, began: float) -> None:
        """Wait for the first definitions: one wait per process, even if several threads want them."""
        self._wait_until(self._first_came, ends_at(self._state.know, self._config.settings, began))
        if self._state.know.held is None and not self._worker.granted and not self._last_known_good.load():
            self._give_up(began)

    def _first_came(self) -> bool:
        """Whether the wait is over: definitions came, this thread may fetch them, or none will come."""
        if self._worker.fetching:
            self._worker.keep_lease()
        elif self._state.know.held is None and not self._worker.granted:
            self._poll()
        if self._state.know.failures:  # others may fail too, so the last known good is better than nothing
            self._last_known_good.load()
        know, now = self._state.know, self._config.clock()
        if know.held is not None or self._worker.granted:
            return True
        until = ends_at(know, self._config.settings, now)
        return nothing_to_wait_for(know, self._state.stores.in_charge.store_name, now, until)

    def _give_up(self, began: float) -> None:
        with self._state.lock:
            first = self._state.know.held is None and not self._state.know.gave_up_waiting
            if first:
                self._state.update(lambda know: know._replace(gave_up_waiting=True))
        if first:
            self._state.cold_start_expired(self._config.clock() - began)
