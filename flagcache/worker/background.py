"""The work of a process with attached clients between their polls: listen, renew the lease, take over, push.

The listener's thread calls this. `flagcache.core.schedule` decides what is due when. A push is the client's own poll,
run on the listener's thread. It contends for the lease only if it is meant to take over.
"""

from __future__ import annotations

import math
import random
from functools import partial
from typing import Protocol

from flagcache.clients import ClientSnapshot, Push
from flagcache.core import schedule
from flagcache.core.notices import Reaction, reaction_to
from flagcache.core.schedule import ClientActivity
from flagcache.events import PushLost, PushRecovered
from flagcache.runtime.guard import log_exceptions
from flagcache.store_failures import NO_THREAD, PATCHED_LATE
from flagcache.stores.abilities import Subscription
from flagcache.stores.base import GRANTED, Notice
from flagcache.worker.config import CacheConfig
from flagcache.worker.last_known_good import LastKnownGood
from flagcache.worker.listener import Listener
from flagcache.worker.notices import Notices
from flagcache.worker.poll import StorePoller
from flagcache.worker.pushes import Pushes, bring_up_to_date
from flagcache.worker.state import ProcessState
from flagcache.worker.troubles import LISTENER

__all__ = ["Background"]

_CHECK_AFTER = 0.1
"""Seconds from a push until a check that every client holds the newest definitions: its own poll, under way during the
push, may have put the older ones back."""

_CHECKS = 3
"""How often that is corrected after one push."""

_SHORTEST, _LONGEST = 0.02, 1.0
"""Seconds between two looks at what is due. The pause doubles from the first to the second while something stays due
because doing it changes nothing, so that the thread is never busy."""


class PollsOnce(Protocol):
    """The worker, as the background needs it: a weak proxy, so that the background doesn't keep it alive."""

    def poll_once(self) -> None:
        """Poll the stores, once for all threads, and act on the reply; return nothing and wait for nothing."""
        ...

    @property
    def fetching(self) -> bool:
        """Whether a fetch of this process is under way."""
        ...


class Background:
    """The background of one process.

    Args:
        config: what all processes of the cache have in common.
        state: what this process knows.
        poller: polls its stores.
        last_known_good: saves what the clients have.
        asks: polls on behalf of clients that can't, and knows whether a fetch is under way.
    """

    def __init__(
        self,
        config: CacheConfig,
        state: ProcessState,
        poller: StorePoller,
        last_known_good: LastKnownGood,
        asks: PollsOnce,
    ) -> None:
        self._config = config
        self._reads_only = config.settings.reads_only
        self._state = state
        self._poller = poller
        self._last_known_good = last_known_good
        self._asks = asks
        self._listener = Listener(self, config.namespace)
        self._notices = Notices(config, state, poller)
        self._pushes = Pushes(config.settings.refresh_interval, config.clock)
        self._offset = random.uniform(0, schedule.OFFSET)
        self._last_poll = config.clock()
        self._check_at = math.inf
        self._checks = 0
        self._contended_at = -math.inf
        self._floor = _SHORTEST
        self._in_trouble = False
        """It was reported that no thread listens."""

    def note_poll(self, push: Push | None, now: float) -> None:
        """A thread polls: note when a client's own poller did, and start the listener if a client wants it."""
        if push is None:
            self._last_poll = now
        if self._in_trouble or not self._listener.alive:
            self.start()

    def may_lead(self, clients: ClientSnapshot, push: Push | None) -> bool:
        """Whether the poll of the calling thread may take the lease: not if no client here could fetch."""
        able = not clients.live or clients.can_fetch
        return able and (push is None or push.contends) and not self._reads_only

    def watches(self, push: Push) -> bool:
        """Whether a push is the deputy's check of the fetch that is due."""
        return push.contends and self._state.active_view.deputy

    @property
    def listens(self) -> bool:
        """Whether there is a client for which a thread of this process must listen."""
        return bool(self._config.clients.listening) and not self._config.settings.reads_only

    @property
    def running(self) -> bool:
        """Whether the listener was started, and not stopped since."""
        return self._listener.running

    @property
    def subscribed(self) -> bool:
        """Whether the listener is subscribed to the store's notices."""
        return self._listener.subscribed

    def start(self) -> None:
        """Start the listener, if a client wants it. A reader has no thread."""
        clients = self._config.clients.snapshot
        if self._config.settings.reads_only or not clients.wanting:
            return
        if clients.listening:
            self._report(self._listener.start(), NO_THREAD)
        else:
            self._report("gevent has patched threads after this cache was made", PATCHED_LATE)

    def _report(self, why: str, trouble: str) -> None:
        """Report that no thread listens, so that nothing is pushed; if `why` is empty, report the end of that."""
        kept, namespace = self._state.troubles, self._config.namespace
        if why:
            self._state.emit(kept.begin(LISTENER, trouble, partial(PushLost, namespace, why, trouble)))
            self._in_trouble = True  # last, so that no thread reports the end before the beginning
        elif self._in_trouble:
            self._in_trouble = False
            self._state.emit(kept.end(LISTENER, partial(PushRecovered, namespace)))

    def stop(self, longest: float) -> None:
        """End the listener, waiting for at most `longest` seconds, and emit pending change events."""
        self._listener.stop(longest)
        self._state.changes.flush()

    def subscribe(self) -> Subscription | None:
        """Open a stream of the fleet's notices."""
        return self._notices.subscribe()

    def on_reconnect(self) -> None:
        """Push: something may have changed while this process did not listen."""
        with self._config.inside.entered():
            self._pushes.ask(self._push, contend=False)

    def on_notice(self, notice: Notice) -> None:
        """Poll the store if a notice announces something new."""
        with self._config.inside.entered():
            if notice.kind == GRANTED:  # nothing has changed yet
                self._notices.granted(notice.version)
            else:
                self._on_notice(notice)

    def _on_notice(self, notice: Notice) -> None:
        self._notices.received(notice.version)
        reaction = reaction_to(notice, self._state.know.held, leads=self._state.active_view.leads)
        if reaction is Reaction.CHECK:
            self._checks = _CHECKS
            self._check_at = min(self._check_at, self._config.clock() + _CHECK_AFTER)
        else:
            self._pushes.ask(self._push, contend=reaction is Reaction.CONTEND)

    def run_due(self) -> float:
        """Do what is due; return the seconds until something else may be due.

        This is short, because a poll on another thread may take the lease at any time, and it must soon be renewed.

        Raises:
            StoreError: the subscription is broken.
        """
        with self._config.inside.entered():
            seconds, floor = self._run_due(), self._floor
        if seconds > _SHORTEST:  # nothing is due at once, so there was progress
            self._floor = _SHORTEST
            return seconds
        self._floor = min(2 * floor, _LONGEST)
        return floor

    def _run_due(self) -> float:
        self._notices.check()
        now = self._config.clock()
        if not self._config.clients.listening:
            self._listener.stop(0)  # its clients are gone
        if now >= self._state.stores.probe_at:  # even while notices arrive, from another node of a cluster
            self._probe(now)  # then continue: a store that hangs must not keep this process from fetching
            now = self._config.clock()
        if now >= self._check_at:
            self._check(now)
        due = self._due(now)
        if now >= due.renew_at:
            self._poller.renew()
        self._pushes.make(self._push)
        if now >= due.contend_at:
            self._contended_at = now
            self._push(contend=True)
        if now >= self._last_known_good.due_at:
            self._last_known_good.save()
        self._state.report_changes()
        now = self._config.clock()
        soonest = min(self._due(now).soonest, self._check_at, self._last_known_good.due_at, self._state.stores.probe_at)
        soonest = min(soonest, self._pushes.due_at)
        return max(_SHORTEST, min(soonest - now, self._config.lease / schedule.RENEWALS))

    def _probe(self, now: float) -> None:
        """Probe the failed store: by the clients' polls, or by a poll of our own if no client's poller runs."""
        push = Push(contends=False)
        self._bring_to_all(push)
        client = next(iter(self._config.clients.listening), None)
        if client is None or now < self._state.stores.probe_at:
            return
        with self._config.clients.polling_for(client, push):
            log_exceptions(self._asks.poll_once, None, self._config.namespace, "polling the store failed")

    def _due(self, now: float) -> schedule.Schedule:
        clients = self._config.clients.snapshot
        activity = ClientActivity(
            polls_every=self._config.settings.polls_every(clients.poll_interval),
            last_poll=self._last_poll,
            able=clients.can_fetch and clients.polling,
            longest_fetch=self._config.settings.fetch_timeout,
            interval=self._config.settings.refresh_interval * self._state.stores.in_charge.spec.pace,
            fetching=self._asks.fetching,
            offset=self._offset,
            contended_at=self._contended_at,
        )
        return schedule.next_duty(self._state.know, self._state.active_view, activity, now)

    def _check(self, now: float) -> None:
        held = self._state.know.held
        clients = [client for client in self._config.clients.listening if client.polling]
        self._check_at = math.inf
        if held is None or self._state.emptied or not clients:
            return
        behind = [client for client in clients if client.differs_from(held.definitions)]
        if any(self._config.clients.being_adopted(client, held.definitions, now) for client in behind):
            self._check_at = now + _CHECK_AFTER
        elif self._checks and behind:
            self._checks -= 1
            self._poll_clients(Push(contends=False))

    def _push(self, *, contend: bool) -> None:
        self._bring_to_all(Push(contends=contend))

    def _bring_to_all(self, push: Push) -> None:
        """Bring every attached client up to date, and check a little later that it is."""
        self._checks = _CHECKS
        self._poll_clients(push)

    def _poll_clients(self, push: Push) -> None:
        """Run the poll of every attached client on this thread; all share one poll of the store.

        While nothing is held, a client's own poll would wait and then return no flags, so the store is polled first. A
        client whose poller doesn't run yet polls at its first load.
        """
        for client in self._config.clients.listening:
            with self._config.clients.polling_for(client, push):
                if self._state.know.held is None and client.polling:
                    log_exceptions(self._asks.poll_once, None, self._config.namespace, "polling the store failed")
                if self._state.know.held is not None:
                    with self._config.inside.left():
                        bring_up_to_date(client, self._config.namespace)
        self._check_at = self._config.clock() + _CHECK_AFTER
