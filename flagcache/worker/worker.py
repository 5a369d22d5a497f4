"""One process of a fleet, as the vendor's SDK drives it: who fetches, what is handed out, and the one cold start wait.

A `Worker` belongs to one pid; `flagcache.coordinator` makes a new one in each forked child. Stores are the business of
its `Exchange`, fetches of its `Fetching`, what happens between polls of its `Attendant`. Must never let two threads ask
the store for the same thing at once, and never answer None to a client without flags, nor to one that lacks what there
is, unless another thread is giving it to it.
"""

from __future__ import annotations

import threading

from flagcache.core import knowledge as election
from flagcache.core.knowledge import Held, Knowledge
from flagcache.core.projects import join_projects
from flagcache.encoding import payload as envelope
from flagcache.events import ColdStartExpired
from flagcache.settings import SLOW_FETCH
from flagcache.stores.base import Meta
from flagcache.vendor import Definitions
from flagcache.worker.background import Attendant
from flagcache.worker.cold_start import ColdStart
from flagcache.worker.config import Plan
from flagcache.worker.fetch import Fetching
from flagcache.worker.grants import Errand, Errands
from flagcache.worker.last_known_good import Archive
from flagcache.worker.poll import Exchange
from flagcache.worker.publish import Reports
from flagcache.worker.state import Ledger

__all__ = ["Worker"]

_LOOKS = 0.005
"""Seconds between two looks at whether the poll under way has ended."""


class Worker:
    """One process's part in a fleet.

    Args:
        plan: what all processes of the cache have in common.
        know: what this process knows from its parent.
    """

    def __init__(self, plan: Plan, know: Knowledge) -> None:
        self._plan = plan
        self._ledger = Ledger(plan, know)
        self._exchange = Exchange(plan, self._ledger)
        self._reports = Reports(plan, self._ledger)
        self._errands = Errands()
        self._cold_start = ColdStart()
        self._archive = Archive(plan, self._ledger)
        self._fetching = Fetching(plan, self._reports, self._arrived)
        self._attendant = Attendant(plan, self._ledger, self._exchange, self._archive)
        self._lock = threading.RLock()  # reentrant, as the exchange's
        self._flight: threading.Event | None = None
        self._asks = 0
        """The thread whose poll is under way."""
        self._over = False

    @property
    def me(self) -> str:
        """This process's identity in its fleet."""
        return self._ledger.me

    @property
    def know(self) -> Knowledge:
        """What this process knows at this moment."""
        return self._ledger.know

    @property
    def store_answers(self) -> bool:
        """Whether the fleet's own store answered when it was last asked."""
        return self._ledger.tiers.first_answers

    @property
    def store_in_charge(self) -> str:
        """Address of the store that coordinates this process now."""
        return self._ledger.tiers.in_charge.home

    @property
    def shared(self) -> bool:
        """Whether the fleet's own store, which answers, has what this process holds."""
        return self._ledger.shared

    @property
    def fetching(self) -> bool:
        """Whether a fetch of this process is under way, or its result not yet taken in."""
        return self._fetching.busy

    @property
    def fetches(self) -> Fetching:
        """What this process fetched for its fleet."""
        return self._fetching

    @property
    def attendant(self) -> Attendant:
        """What this process does between polls."""
        return self._attendant

    def learn_project(self, project: str) -> None:
        """Know what an attached client knows of its project."""
        self._ledger.learn(lambda know: know._replace(project=join_projects(know.project, project)))

    def should_fetch(self) -> bool:
        """Ask the store; True sends the calling thread to fetch. With attached clients the fleet fetches itself."""
        self._come_back()
        self._attendant.polled()
        if not self._attendant.just_asked():
            self._poll()
        if self._fetching.busy and not self._can_go_on():
            self._fetching.wait(self._plan.settings.store_timeout)
        return self._errands.granted

    def _can_go_on(self) -> bool:
        """Whether an application that starts waits for its flags here, and can be given what the store had."""
        clients = self._plan.clients
        loads = clients.asking() is None and any(client.polling is None for client in clients.live)
        return loads and self.know.held is not None

    def definitions(self) -> Definitions | None:
        """What the calling thread's client lacks; None if nothing. Waits for the first ones, once.

        None also sends a thread to fetch that was granted it and has nothing (without attached clients).
        """
        if self.know.held is None and not self.know.gave_up_waiting:
            self._wait()
        held = self.know.held
        if self._ledger.emptied:
            return self._plan.vendor.empty()
        if held is not None:
            return held.definitions if self._plan.clients.hand(held.definitions, self._plan.clock()) else None
        return None if self._errands.granted else self._plan.vendor.empty()

    def received(self, definitions: object) -> None:
        """Take in and publish what the calling thread has fetched. A reader was sent by nobody, and tells nobody."""
        if self._plan.settings.reads_only:
            return
        try:
            self._deliver(definitions)
        finally:
            self._errands.back()  # only now: to the threads that ask meanwhile a fetch is under way still

    def _deliver(self, definitions: object) -> None:
        errand = self._errands.current
        checked = self._plan.vendor.check(definitions)
        # A thread that never asked may have begun its fetch long ago: taken for as old as a fetch can be.
        errand = errand or Errand("", None, 0, self._plan.clock() - SLOW_FETCH)
        times = election.stamp(self.know, errand.home, errand.grant, errand.asked)
        version = envelope.digest(checked)
        meta = Meta(
            version=version,
            epoch=times.epoch,
            as_of=times.as_of,
            changed_at=election.changed_at(self.know, errand.home, version, times),
            confirmed_at=times.at,
            writer=self._plan.vendor.writer,
            project=self._plan.vendor.project(checked),
        )
        self._reports.fetched(Held(meta, checked, errand.home, errand.began, accepted=False), times)
        self._arrived()

    def shutdown(self) -> None:
        """End what runs for clients that were shut down; with the last one, leave. A later call starts anew."""
        for client in self._plan.clients.live:
            if client.polling is False:
                client.close()
        if not any(client.polling for client in self._plan.clients.live):
            self.leave()

    def leave(self, *, at_exit: bool = False) -> None:
        """End all that runs, give up the lease and close what is open.

        Args:
            at_exit: ask no store ever again, so that no thread that still polls takes the lease anew.
        """
        budget = self._plan.settings.store_timeout
        with self._lock:
            self._over = self._over or at_exit
        self._attendant.stop(budget)
        self._land(budget)
        self._fetching.cancel(budget)
        self._archive.settle()
        self._exchange.leave(idle=self._idle)

    def _land(self, budget: float) -> None:
        """Let another thread's poll under way come to its end: it may take the lease, which has to be given up.

        Its own event is not waited for: a signal handler may have interrupted this thread with that one's lock in hand.
        """
        flight = self._flight
        for _ in range(round(budget / _LOOKS)):
            if flight is None or self._flight is not flight or self._asks == threading.get_ident():
                return
            threading.Event().wait(_LOOKS)

    @property
    def _idle(self) -> bool:
        return self._errands.idle(self._plan.clock()) and not self._fetching.busy

    def _come_back(self) -> None:
        """The thread asks again: the fetch that it was sent on has ended, and brought nothing.

        A process that never received definitions has no entity tag, so that its silence cannot mean "unchanged". Where
        people cleared the store since, "unchanged" is of no use to it: whoever has no tag is to fill it.
        """
        errand, was_out = self._errands.back()
        if errand is None or errand.grant is None or not was_out:
            return
        know = self.know
        if not know.received or (know.held is not None and know.held.meta.epoch < errand.grant.epoch):
            self._reports.own_fetch_failed(errand.home, errand.grant)

    def _poll(self) -> None:
        """Ask the stores, once for all threads that want to know now. A grant goes to the thread that asked.

        A thread that follows a notice waits for the poll under way and then makes its own, which cannot be older.
        """
        while True:
            with self._lock:
                if self._over:
                    return
                flight, others = threading.Event(), self._flight
                if others is None:
                    self._flight, self._asks = flight, threading.get_ident()
            if others is None:
                break
            others.wait(2 * self._plan.settings.store_timeout)
            if not self._plan.clients.on_behalf:
                return
        try:
            self._ask()
        finally:
            self._flight = None
            flight.set()

    def _ask(self) -> None:
        # While a fetch is under way the listener keeps the lease, and another grant could not be used.
        may_lead = self._attendant.may_lead() and not self._fetching.busy
        fetcher = self._plan.clients.fetcher()
        serve_first = fetcher is None and self.know.held is None
        answer = self._exchange.ask(may_lead=may_lead, idle=self._idle, serve_first=serve_first)
        self._ledger.look()
        if self.know.held is not None:
            self._arrived()
        if answer is None:
            return
        errand = Errand(answer.home, answer.grant, answer.clock, answer.at)
        if answer.grant is None or fetcher is None:
            self._errands.send(errand)
        else:
            self._fetching.begin(errand, answer.grant, fetcher)

    def _arrived(self) -> None:
        """Something may have come: keep it for worse days, and wake who waits for it.

        In this order: whoever waited may fork next, and a child forked while a thread uses SQLite cannot use it. What
        replaces definitions that are kept goes to the clients first, where the listener comes back to it.
        """
        self._archive.arrived(later=self._attendant.running)
        self._cold_start.arrived()

    def _wait(self) -> None:
        """Wait for the first definitions: one wait a process, however many threads want them."""
        began = self.know.waiting_since
        if began is None:  # no store ever answered, so that there is none to wait for
            return
        left = began + self._plan.settings.cold_start_wait - self._plan.clock()
        self._cold_start.wait(self._look_again, left, self._plan.clock)
        if self.know.held is None and not self._errands.granted and not self._archive.recall():
            self._give_up_waiting(began)

    def _look_again(self) -> bool:
        """Whether the wait is over: definitions came, this thread may fetch them, or the vendor refuses them to all."""
        if self.know.held is None and not self._errands.granted and not self._fetching.busy:
            self._poll()
        if self.know.failures:  # nor may others be able to fetch now: better the last known good ones than none
            self._archive.recall()
        return self.know.held is not None or self._errands.granted or bool(self.know.note_status)

    def _give_up_waiting(self, began: float) -> None:
        with self._lock:
            first = self.know.held is None and not self.know.gave_up_waiting
            if first:
                self._ledger.learn(lambda know: know._replace(gave_up_waiting=True))
        if first:
            waited = self._plan.clock() - began
            self._plan.events.emit(ColdStartExpired(self._plan.namespace, waited))
