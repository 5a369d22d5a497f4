"""One process's part in its fleet, as the vendor's SDK calls it: should fetch, definitions, received, shutdown.

A `Worker` belongs to one pid; `flagcache.coordinator` makes a new one in each forked child. Its `StorePoller` polls the
stores, its `FetchThread` fetches, its `Background` works between polls. Invariant: two threads never ask a store for
the same thing at once, and a client without flags never gets None, unless another thread gives it the definitions.
"""

from __future__ import annotations

import weakref

from flagcache.clients import ClientSnapshot, Push
from flagcache.core import knowledge
from flagcache.core.first_load import is_starting
from flagcache.core.knowledge import Knowledge
from flagcache.core.projects import join_projects
from flagcache.core.reply import serves_first
from flagcache.core.schedule import HEARTBEAT
from flagcache.runtime.callers import Caller, thread_record, within
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
        self._fetching = FetchThread(config, self._publisher, self._arrived, self._stand_down)
        self._first_load = FirstLoad(config, self._state, self._last_known_good, self)
        self._background = Background(config, self._state, self._poller, self._last_known_good, weakref.proxy(self))
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
        """Whether it had definitions and its clients took them."""
        return self._readiness.reached()

    @property
    def shared(self) -> bool:
        """Whether the fleet's own store, which answers, has what this process holds."""
        return self._state.shared

    @property
    def fetching(self) -> bool:
        """Whether a fetch of this process is under way, or its result not yet taken in."""
        return self._fetching.busy

    @property
    def granted(self) -> bool:
        """Whether the calling thread may fetch."""
        return self._grants.granted

    @property
    def fetches(self) -> FetchThread:
        """The fetches of this process for its fleet."""
        return self._fetching

    @property
    def background(self) -> Background:
        """What this process does between polls."""
        return self._background

    def learn_project(self, project: str) -> None:
        """Add what an attached client knows of its project."""
        self._state.update(lambda know: know._replace(project=join_projects(know.project, project)))

    def should_fetch(self) -> bool:
        """Ask the store. True sends the calling thread to fetch, if its client is unknown; else the fleet fetches."""
        who, now = thread_record().caller, self._config.clock()
        self._end_silent_fetch(who)
        who.asked_at = now
        push = self._config.clients.push
        self._background.note_poll(push, now)
        if push is None:
            self.look()
        else:
            self.ask_once()
        if self._fetching.busy and not self._first_load.may_go_on():
            self._wait_for_fetch()
        return self._grants.granted

    def _wait_for_fetch(self) -> None:
        """Wait for the fetch under way; if no thread listens and nothing new is held, as long as for the SDK's."""
        settings, client, held = self._config.settings, self._config.clients.asking(), self.know.held
        news = client is not None and held is not None and client.differs_from(held.definitions)
        alone = not self._background.listens and self.know.loaded and not news
        self._fetching.wait(settings.fetch_timeout if alone else settings.store_timeout, self.keep_lease)

    def keep_lease(self) -> None:
        """Renew the lease, if this process has it, while its fetch is under way and the listener may not run yet."""
        view = self._state.active_view
        if self._fetching.busy and view.leads and self._config.clock() - view.renewed >= HEARTBEAT:
            self._poller.renew()

    def ask_once(self) -> None:
        """Poll the stores, unless the calling thread's push has done so; a grant starts a fetch."""
        push = self._config.clients.push
        if push is not None:
            if push.asked:
                return
            push.asked = True
        self.look()

    def definitions(self, *, loads_again: bool = False) -> Definitions | None:
        """Return the definitions that the calling thread's client lacks; None if it lacks none. A first load may wait.

        If nothing is held, None makes the calling thread fetch: because it has a grant (its client is unknown), or
        because it `loads_again` (its client never polls).
        """
        self._first_load.wait()
        self._stand_down()
        held = self.know.held
        if self._state.emptied:
            return self._config.vendor.empty()
        if held is not None:
            lacks_them = self._config.clients.may_hand_over(held.definitions, self._config.clock())
            return held.definitions if lacks_them else None
        if self._grants.granted:
            return None
        if not loads_again:
            return self._config.vendor.empty()
        self._publisher.count_without_grant()
        return None

    def received(self, definitions: object) -> None:
        """Take in and publish what the calling thread has fetched. A reader publishes nothing."""
        if self._config.settings.reads_only:
            return
        try:
            self._deliver(definitions)
        finally:
            self._first_load.over()
            self._grants.take()  # last, so that threads that ask meanwhile still see a fetch under way

    def _deliver(self, definitions: object) -> None:
        outcome, checked = self._grants.current, self._config.vendor.check(definitions)
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
        """End all that runs, give up the lease and close what is open.

        Args:
            at_exit: never poll again, so that no thread that still polls takes the lease.
        """
        budget = self._config.settings.store_timeout
        if at_exit:
            self._polls.close()
        self._background.stop(budget)
        self._polls.wait_for_end(budget)  # a poll under way may take the lease, which must be released
        self._fetching.wait_for_end(budget)
        self._fetching.cancel(budget)
        self._last_known_good.save_due()
        self._poller.leave(idle=self._idle)

    @property
    def _idle(self) -> bool:
        sdk_fetches = not self._grants.idle(self._config.clock())
        return not (sdk_fetches or self._fetching.busy or self._deferred)

    def _end_silent_fetch(self, who: Caller) -> None:
        """The thread asks again, so the fetch that it was granted has ended and brought nothing: report a failure.

        A process that never received definitions sends no entity tag, so the vendor can't have answered "unchanged".
        If people cleared the store since, that answer would not help either.
        """
        outcome, was_in_use = self._grants.take(who)
        if outcome is None or outcome.grant is None or not was_in_use:
            return
        know = self.know
        if not know.received or (know.held is not None and know.held.meta.epoch < outcome.grant.epoch):
            self._publisher.own_fetch_failed(outcome.store_name, outcome.grant)

    def look(self, *, contend: bool = True) -> None:
        """Poll the stores, once for all threads that ask now. A grant goes to the thread that polled.

        A thread that follows a notice waits for the poll under way and then makes its own, which cannot be older.
        """

        def ask() -> None:
            with within(self._config.settings.store_timeout):
                self._ask(clients, push, contend=contend, may_lead=may_lead)

        push = self._config.clients.push
        with self._config.clients.one_snapshot() as clients:
            may_lead = contend and self._background.may_lead(clients, push)
            self._polls.run(
                ask,
                full=may_lead,
                longest=self._config.settings.store_timeout * (1 if self.know.held else 2),  # 2: nothing is held yet
                newer=push is not None,
            )

    def _ask(self, clients: ClientSnapshot, push: Push | None, *, contend: bool, may_lead: bool) -> None:
        # During a fetch the listener keeps the lease, and a second grant could not be used.
        know = self._state.know
        idle, reports = self._idle, clients.can_fetch and not self._reads_only
        listens = reports and clients.polling and bool(clients.listening)
        watches = push is not None and self._background.watches(push)
        intent = PollIntent(may_lead and not self._fetching.busy, idle, reports, listens, watches, is_starting(know))
        outcome = self._poller.poll(intent, serve_first=serves_first(know, can_fetch=clients.can_fetch))
        self._state.report_changes()
        if self._state.know.held is not know.held:
            self._arrived()
        elif not self._background.running:
            self._last_known_good.save_due()
        if outcome is None:
            return
        self._deferred = outcome.deferred or (self._deferred and not contend)
        grant = outcome.grant if outcome.grant and self._publisher.admits(outcome.store_name, outcome.grant) else None
        outcome = outcome._replace(grant=grant)
        if grant is None or not clients.can_fetch:
            self._grants.note(outcome)
        elif (fetcher := self._config.clients.fetcher()) is not None:
            self._fetching.start(outcome, grant, fetcher)
        else:  # a client was shut down, or its key taken away, during the poll
            self._publisher.fail(outcome.store_name, grant, Refused("no client can fetch any more", Scope.MINE))

    def _stand_down(self) -> None:
        """Give up a lease that no client here will use: without a poller, a process fetches only for its loads."""
        if self._state.active_view.leads and not self._fetching.busy and not self._config.clients.polls:
            self._poller.stand_down(idle=self._idle)

    def _arrived(self) -> None:
        """Definitions may have come: save them in the fallback file, and wake the threads that wait for them.

        In this order, because a thread that waited may fork next, and a child that is forked while a thread uses SQLite
        can't use it. If a listener runs, it saves them later, so that clients come first.
        """
        self._last_known_good.offer_soon(later=self._background.running)
        self._first_load.arrived()
