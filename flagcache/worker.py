"""One process of a fleet, as the vendor's SDK drives it: who fetches, what is handed out, and the one cold start wait.

A `Worker` belongs to one pid; `flagcache.coordinator` makes a new one in each forked child. Stores are the business of
its `Exchange`. Must never fetch itself, and never let two threads ask the store for the same thing at once.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from flagcache import election, envelope
from flagcache.cold_start import ColdStart
from flagcache.election import Held, Knowledge
from flagcache.errands import Errand, Errands
from flagcache.events import ColdStartExpired
from flagcache.exchange import Exchange, Plan
from flagcache.settings import SLOW_FETCH
from flagcache.stores.base import Meta
from flagcache.vendor import Definitions

__all__ = ["Plan", "Worker"]


class Worker:
    """One process's part in a fleet.

    Args:
        plan: what all processes of the cache have in common.
        know: what this process knows from its parent.
    """

    def __init__(self, plan: Plan, know: Knowledge) -> None:
        self._plan = plan
        self._exchange = Exchange(plan, know)
        self._errands = Errands()
        self._cold_start = ColdStart()
        self._lock = threading.RLock()  # reentrant, as the exchange's
        self._flight: threading.Event | None = None

    @property
    def me(self) -> str:
        """This process's identity in its fleet."""
        return self._exchange.me

    @property
    def know(self) -> Knowledge:
        """What this process knows at this moment."""
        return self._exchange.know

    @property
    def store_answers(self) -> bool:
        """Whether the fleet's own store answered when it was last asked."""
        return self._exchange.store_answers

    def should_fetch(self) -> bool:
        """Ask the store; True sends the calling thread to fetch."""
        self._come_back()
        self._poll()
        return self._errands.granted

    def definitions(self) -> Definitions | None:
        """What this process holds; waits for the first ones. None sends a thread to fetch that was granted it."""
        if self.know.held is None and not self.know.gave_up_waiting:
            self._wait()
        held = self.know.held
        if held is not None:
            return held.definitions
        return None if self._errands.granted else self._plan.vendor.empty()

    def received(self, definitions: object) -> None:
        """Take in and publish what the calling thread has fetched."""
        errand, _ = self._errands.back()
        checked = self._plan.vendor.check(definitions)
        project = self._plan.vendor.project(checked)
        self._exchange.learn(
            lambda know: replace(know, received=True, failures=0, project=project or know.project),
        )
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
            project=project,
        )
        self._exchange.offer(Held(meta, checked, errand.home, errand.began, accepted=False), times)
        self._cold_start.arrived()

    def shutdown(self) -> None:
        """Give up the lease and close what is open. A later call starts anew."""
        self._exchange.leave(idle=self._errands.idle(self._plan.clock()))

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
            self._exchange.own_fetch_failed(errand.home, errand.grant)

    def _poll(self) -> None:
        """Ask the stores, once for all threads that want to know now. A grant goes to the thread that asked."""
        with self._lock:
            flight, others = threading.Event(), self._flight
            if others is None:
                self._flight = flight
        if others is not None:
            others.wait(2 * self._plan.settings.store_timeout)
            return
        try:
            answer = self._exchange.ask(idle=self._errands.idle(self._plan.clock()))
            if answer is not None:
                self._errands.send(Errand(answer.home, answer.grant, answer.clock, answer.at))
        finally:
            self._flight = None
            flight.set()

    def _wait(self) -> None:
        """Wait for the first definitions: one wait a process, however many threads want them."""
        began = self.know.waiting_since
        if began is None:  # no store ever answered, so that there is none to wait for
            return
        left = began + self._plan.settings.cold_start_wait - self._plan.clock()
        if not self._cold_start.wait(self._look_again, left, self._plan.clock):
            self._give_up_waiting(began)

    def _look_again(self) -> bool:
        """Whether the wait is over: definitions came, or this thread may fetch them."""
        if self.know.held is None and not self._errands.granted:
            self._poll()
        return self.know.held is not None or self._errands.granted

    def _give_up_waiting(self, began: float) -> None:
        with self._lock:
            first = self.know.held is None and not self.know.gave_up_waiting
            if first:
                self._exchange.learn(lambda know: replace(know, gave_up_waiting=True))
        if first:
            waited = self._plan.clock() - began
            self._plan.events.emit(ColdStartExpired(self._plan.namespace, waited))
