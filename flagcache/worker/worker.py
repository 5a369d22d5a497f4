"""One process's part in its fleet, as the vendor's SDK calls it: should fetch, definitions, received, shutdown.

A `Worker` belongs to one pid; `flagcache.coordinator` makes a new one in each forked child. Its `StorePoller` polls the
stores, its `FetchThread` fetches, its `Background` works between polls. Invariant: two threads never ask a store for
the same thing at once, and a client without flags never gets None, unless another thread gives it the definitions.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial

from flagcache.clients import ClientSnapshot, Push
from flagcache.core import knowledge
from flagcache.core.fetches import failed_silently
from flagcache.core.first_load import is_starting
from flagcache.core.knowledge import Knowledge
from flagcache.core.projects import join_projects
from flagcache.core.reply import serves_first
from flagcache.core.schedule import HEARTBEAT
from flagcache.runtime.callers import Caller, ThreadRecord, caller, thread_record, within
from flagcache.runtime.single_flight import SingleFlight
from flagcache.settings import SLOW_FETCH
from flagcache.stores.base import Scope
from flagcache.vendor import Definitions, Refused
from flagcache.worker.background import Background
from flagcache.worker.config import CacheConfig
from flagcache.worker.fetch import FetchThread
from flagcache.worker.first_load import FirstLoad
from flagcache.worker.fleet_status import FleetStatus, Readiness, fleet_status
from flagcache.worker.grants import PollOutcome, ThreadGrants
from flagcache.worker.last_known_good import LastKnownGood
from flagcache.worker.poll import PollIntent, StorePoller
from flagcache.worker.publish import Publisher
from flagcache.worker.state import ProcessState
from flagcache.worker.trust import Trust

__all__ = ["Worker"]


class Worker:
    """One process's part in a fleet.

    Args:
        config: what all processes of the cache have in common.
        know: what this process knows from its parent.
    """

    def __init__(self, config: CacheConfig, know: Knowledge) -> None:
        self._config = config
        self._reads_only = config.settings.reads_only
        self._state = ProcessState(config, know)
        self._publisher = Publisher(config, self._state)
        trust = Trust(config, self._state)
        self._poller = StorePoller(config, self._state, self._publisher, trust)
        self._grants = ThreadGrants()
        self._deferred = False
        """A grant was deferred to the next poll: no thread fetches with it now."""
        self._last_known_good = LastKnownGood(config, self._state, self._publisher, trust)
        self.fetches = FetchThread(config, self._publisher, self._arrived, self._stand_down)
        """The fetches of this process for its fleet."""
        self._first_load = FirstLoad(config, self._state, self._last_known_good, self)
        self.background = Background(config, self._state, self._poller, self._last_known_good, weakref.proxy(self))
        """What this process does between polls."""
        self._polls = SingleFlight()
        self._readiness = Readiness(config, self._state)

    @property
    def me(self) -> str:
        """This process's identity in its fleet."""
        return self._state.me

    @property
    def know(self) -> Knowledge:
        """What this process knows at this moment."""
        return self._state.know

    @property
    def fleet_status(self) -> FleetStatus:
        """The part of the status that is not about the definitions held."""
        return fleet_status(self._config, self._state)

    @property
    def ready(self) -> bool:
        """Whether this process has had definitions and its clients have adopted them."""
        return self._readiness.reached()

    @property
    def shared(self) -> bool:
        """Whether the fleet's own store answers and has what this process holds."""
        return self._state.shared

    @property
    def fetching(self) -> bool:
        """Whether a fetch of this process is under way, or its result is not adopted yet."""
        return self.fetches.busy

    @property
    def granted(self) -> bool:
        """Whether the calling thread may fetch."""
        return self._grants.granted_to(caller())

    def learn_project(self, project: str) -> None:
        """Add what an attached client knows of its project."""
        self._state.update(lambda know: know._replace(project=join_projects(know.project, project)))

    def should_fetch(self) -> bool:
        """Poll the store. True makes the calling thread fetch; only a thread with an unknown client gets it."""
        thread, now = thread_record(), self._config.clock()
        who, push = thread.caller, self._config.clients.push_on(thread)
        self._end_silent_fetch(who)
        who.asked_at = now
        self.background.note_poll(push, now)
        if push is None:
            self._poll_once_for_all(thread, None, contend=True)
        else:
            self.poll_once()
        if self.fetches.busy and not self._first_load.may_go_on():
            self._wait_for_fetch()
        return self._grants.granted_to(who)

    def _wait_for_fetch(self) -> None:
        """Wait for the fetch under way: `fetch_timeout` without a listener and without news, else `store_timeout`."""
        settings, held = self._config.settings, self._state.know.held
        client = self._config.clients.asking(thread_record())
        news = client is not None and held is not None and client.differs_from(held.definitions)
        alone = not self.background.listens and self.know.loaded and not news
        self.fetches.wait(settings.fetch_timeout if alone else settings.store_timeout, self.keep_lease)

    def keep_lease(self) -> None:
        """Renew the lease, if this process has it, while its fetch is under way and the listener may not run yet."""
        view = self._state.active_view
        if self.fetches.busy and view.leads and self._config.clock() - view.renewed >= HEARTBEAT:
            self._poller.renew()

    def poll_once(self) -> None:
        """Poll the stores, unless the calling thread's push has done so; a grant starts a fetch."""
        push = self._config.clients.push
        if push is not None:
            if push.asked:
                return
            push.asked = True
        self.poll()

    def definitions(self, *, loads_again: Callable[[], bool] | None = None) -> Definitions | None:
        """Return the definitions that the calling thread's client lacks; None if it lacks none. A first load may wait.

        If nothing is held, None makes the calling thread fetch: because it has a grant (its client is unknown), or
        because it `loads_again` (its client never polls).
        """
        thread = thread_record()
        self._first_load.wait(thread.caller)
        clients, know = self._config.clients, self._state.know
        client = clients.asking(thread)
        if client is None:  # it loads: no poller of this process may run
            self._stand_down()
        if know.backoff.status and self._state.emptied:
            return self._config.vendor.empty()
        if know.held is not None:
            definitions = know.held.definitions
            return definitions if clients.may_hand_over(client, definitions, self._config.clock()) else None
        if self.granted:
            return None
        if loads_again is None or not loads_again():
            return self._config.vendor.empty()
        self._publisher.count_without_grant()
        return None

    def received(self, definitions: object) -> None:
        """Adopt and publish what the calling thread has fetched. A reader publishes nothing."""
        if self._config.settings.reads_only:
            return
        try:
            self._deliver(definitions)
        finally:
            self._first_load.over()
            self._grants.take(caller())  # last, so that other threads still see a fetch under way until then

    def _deliver(self, definitions: object) -> None:
        outcome, checked = self._grants.current(caller()), self._config.vendor.check(definitions)
        # A thread that never asked may have begun its fetch long ago, so it counts as the longest one possible.
        outcome = outcome or PollOutcome("", None, 0, self._config.clock() - SLOW_FETCH)
        times = knowledge.times_of_fetch(self.know, outcome.store_name, outcome.grant, outcome.clock)
        fetched = self._publisher.as_held(checked, outcome, times)
        self._publisher.malformed(self._config.vendor.malformed(definitions))
        self._publisher.publish(fetched, times)
        self._arrived()

    def shutdown(self) -> None:
        """Close clients that were shut down, and leave the fleet if none polls any more. A later call starts again."""
        for client in self._config.clients.live:
            if client.polling is False:
                client.close()
        if not any(client.polling for client in self._config.clients.live):
            self.leave()

    def leave(self, *, at_exit: bool = False) -> None:
        """Stop the threads, give up the lease and close the stores.

        Args:
            at_exit: never poll again, so that no thread that still polls takes the lease.
        """
        budget = self._config.settings.store_timeout
        if at_exit:
            self._polls.close()
        self.background.stop(budget)
        self._polls.wait_for_end(budget)  # a poll under way may take the lease, which must be released
        self.fetches.wait_for_end(budget)
        self.fetches.cancel(budget)
        self._last_known_good.save_due()
        self._poller.leave(idle=self._idle)

    @property
    def _idle(self) -> bool:
        return self._is_idle(fetching=self.fetches.busy)

    def _is_idle(self, *, fetching: bool) -> bool:
        return not (fetching or self._deferred) and self._grants.idle(self._config.clock())

    def _end_silent_fetch(self, who: Caller) -> None:
        """Report a failure if this thread's fetch brought nothing: it has ended, because the thread asks again."""
        outcome, was_in_use = self._grants.take(who)
        if outcome is None or outcome.grant is None or not was_in_use:
            return
        if failed_silently(self.know, outcome.grant):
            self._publisher.own_fetch_failed(outcome.store_name, outcome.grant)

    def poll(self, *, contend: bool = True) -> None:
        """Poll the stores, once for all threads that ask now. A grant goes to the thread that polled.

        A thread that follows a notice waits for the poll under way and then makes its own, which cannot be older.
        """
        thread = thread_record()
        self._poll_once_for_all(thread, self._config.clients.push_on(thread), contend=contend)

    def _poll_once_for_all(self, thread: ThreadRecord, push: Push | None, *, contend: bool) -> None:
        with self._config.clients.one_snapshot(thread) as clients:
            may_lead = contend and self.background.may_lead(clients, push)
            self._polls.run(
                partial(self._poll_stores, thread.caller, clients, push, contend=contend, may_lead=may_lead),
                full=may_lead,
                longest=self._config.settings.store_timeout * (1 if self._state.know.held else 2),  # 2: holds nothing
                newer=push is not None,
            )

    def _poll_stores(
        self, who: Caller, clients: ClientSnapshot, push: Push | None, *, contend: bool, may_lead: bool
    ) -> None:
        # During a fetch the listener renews the lease, and a second grant could not be used.
        know, times = self._state.know, self._config.times_with(clients)
        busy = self.fetches.busy
        idle, reports = self._is_idle(fetching=busy), clients.can_fetch and not self._reads_only
        listens = reports and clients.polling and bool(clients.listening)
        watches = push is not None and self.background.watches(push)
        intent = PollIntent(may_lead and not busy, idle, reports, listens, watches, is_starting(know))
        with within(self._config.settings.store_timeout):
            serve_first = serves_first(know, can_fetch=clients.can_fetch)
            outcome = self._poller.poll(intent, times.lease, serve_first=serve_first)
            self._state.report_changes(times.stale_after)
            if self._state.know.held is not know.held:
                self._arrived()
            elif not self.background.running:
                self._last_known_good.save_due()
            if outcome is not None:
                self._deferred = outcome.deferred or (self._deferred and not contend)
                self._use(outcome, who, clients)

    def _use(self, outcome: PollOutcome, who: Caller, clients: ClientSnapshot) -> None:
        """Note the outcome for the thread that polled; with a grant, fetch for the fleet if a client here can."""
        grant = outcome.grant
        if grant is None or not self._publisher.admits(outcome.store_name, grant):
            self._grants.record(who, outcome._replace(grant=None))
        elif not clients.can_fetch:
            self._grants.record(who, outcome)
        elif (fetcher := self._config.clients.fetcher()) is not None:
            self.fetches.start(outcome, grant, fetcher)
        else:  # during the poll the client was shut down, or lost its key
            self._publisher.fail(outcome.store_name, grant, Refused("no client can fetch any more", Scope.MINE))

    def _stand_down(self) -> None:
        """Give up the lease if no client here polls: such a process fetches only for loads."""
        if self._state.active_view.leads and not self.fetches.busy and not self._config.clients.polls:
            self._poller.stand_down(idle=self._idle)

    def _arrived(self) -> None:
        """Definitions may have come: save them in the fallback file, and wake the threads that wait for them.

        In this order, because a thread that waited may fork next, and a child that is forked while a thread uses SQLite
        can't use the file. If a listener runs, it saves them later, so that clients come first.
        """
        self._last_known_good.offer_soon(later=self.background.running)
        self._first_load.arrived()
