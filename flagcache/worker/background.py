"""What a process with attached clients does between their polls: it listens, renews, takes over and pushes.

The listener's thread calls in here; `flagcache.core.schedule` decides when what is due. A push is the client's own
poll, run
on the listener's thread, and asks the store without contending unless it is meant to take over.
"""

from __future__ import annotations

import math
import random
import threading

from flagcache.core import schedule as duties
from flagcache.core.schedule import Pulse
from flagcache.runtime.guard import guarded
from flagcache.stores.base import Notice, Subscription
from flagcache.worker.config import Plan
from flagcache.worker.last_known_good import Archive
from flagcache.worker.listener import Listener
from flagcache.worker.poll import Exchange
from flagcache.worker.state import Ledger

__all__ = ["Attendant"]

_CHECK_AFTER = 0.1
"""Seconds after a push at which is looked whether every client holds the newest definitions: its own poll, under way at
that moment, may have put the older ones back."""

_CHECKS = 3
"""How often that is mended after one push."""

_OFFSET = 0.1
"""Seconds over which the followers of a lost leader spread."""


class _Thread(threading.local):
    contends = True
    asked = False


class Attendant:
    """The background of one process.

    Args:
        plan: what all processes of the cache have in common.
        ledger: what this process knows.
        exchange: asks its stores.
        archive: keeps what the clients have.
    """

    def __init__(self, plan: Plan, ledger: Ledger, exchange: Exchange, archive: Archive) -> None:
        self._plan = plan
        self._ledger = ledger
        self._exchange = exchange
        self._archive = archive
        self._thread = _Thread()
        self._listener = Listener(self)
        self._offset = random.uniform(0, _OFFSET)
        self._last_poll = plan.clock()
        self._check_at = math.inf
        self._checks = 0
        self._contended_for = 0.0

    # --- what the worker asks ----------------------------------------------------------------------------------------

    def polled(self) -> None:
        """A thread asks: note a client's own poll, and make sure that somebody listens if clients are attached."""
        if not self._plan.clients.on_behalf:
            self._last_poll = self._plan.clock()
        self.start()

    def may_lead(self) -> bool:
        """Whether the poll of the calling thread may take the lease: not if nobody here could fetch."""
        if self._plan.settings.reads_only:
            return False
        clients = self._plan.clients
        able = not clients.live or clients.fetcher() is not None
        return able and (self._thread.contends or not clients.on_behalf)

    def just_asked(self) -> bool:
        """Whether the calling thread's push has asked the store already, for another client of this process."""
        if not self._plan.clients.on_behalf:
            return False
        asked, self._thread.asked = self._thread.asked, True
        return asked

    @property
    def running(self) -> bool:
        """Whether the listener was started, and not stopped since."""
        return self._listener.running

    def start(self) -> None:
        """Start the listener, if there is anybody to listen for. A reader has no thread."""
        if self._plan.clients.live and not self._plan.settings.reads_only:
            self._listener.start()

    def stop(self, longest: float) -> None:
        """End the listener; waits at most so many seconds."""
        self._listener.stop(longest)

    # --- what the listener asks --------------------------------------------------------------------------------------

    def subscribe(self) -> Subscription | None:
        """Open a stream of the fleet's notices."""
        return self._exchange.subscribe()

    def ask_again(self) -> None:
        """Something may have changed while nobody listened."""
        self._push(contend=False)

    def heed(self, notice: Notice) -> None:
        """Ask the store if a notice tells something new."""
        held = self._ledger.know.held
        if notice.kind == "new" and held is not None and notice.version == held.meta.version:
            self._checks = _CHECKS
            self._check_at = min(self._check_at, self._plan.clock() + _CHECK_AFTER)
        else:
            self._push(contend=notice.kind == "free")

    def attend(self) -> float:
        """Do what is due; return the seconds until something else may be.

        A poll on another thread may take the lease at any time, which then has to be renewed soon.
        """
        now = self._plan.clock()
        if not self._plan.clients.live:
            self._listener.stop(0)  # nobody holds its clients any more
        if now >= self._ledger.tiers.probe_at:  # its notices may come all the while, from another node of a cluster
            self._push(contend=False)
            return 0.0
        if now >= self._check_at:
            self._check(now)
        due = self._due(now)
        if now >= due.renew_at:
            self._exchange.renew()
        if now >= due.contend_at:
            self._contended_for = due.contend_at
            self._push(contend=True)
        if now >= self._archive.due_at:
            self._archive.keep()
        self._ledger.look()
        now = self._plan.clock()
        soonest = min(self._due(now).soonest, self._check_at, self._archive.due_at, self._ledger.tiers.probe_at)
        return max(0.0, min(soonest - now, self._plan.lease / duties.RENEWALS))

    def _due(self, now: float) -> duties.Duties:
        clients, contact = self._plan.clients, self._ledger.contact
        pulse = Pulse(
            polls_every=self._plan.polls_every,
            last_poll=self._last_poll,
            able=clients.fetcher() is not None and any(c.polling is not False for c in clients.live),
            longest_fetch=self._plan.settings.fetch_timeout,
            offset=self._offset,
            contended_for=self._contended_for,
        )
        return duties.next_duty(self._ledger.know, contact, pulse, now)

    def _check(self, now: float) -> None:
        held = self._ledger.know.held
        clients = [client for client in self._plan.clients.live if client.polling]
        self._check_at = math.inf
        if held is None or self._ledger.emptied or not clients:
            return
        behind = [client for client in clients if client.lacks(held.definitions)]
        if any(self._plan.clients.adopting(client, held.definitions, now) for client in behind):
            self._check_at = now + _CHECK_AFTER
        elif self._checks and behind:
            self._checks -= 1
            self._ask_all(contend=False)

    def _push(self, *, contend: bool) -> None:
        """Bring every attached client up to date, and see to it that it stays so."""
        self._checks = _CHECKS
        self._ask_all(contend=contend)

    def _ask_all(self, *, contend: bool) -> None:
        """Run the poll of every attached client here and now; all share one question to the store."""
        self._thread.contends, self._thread.asked = contend, False
        for client in self._plan.clients.live:
            with self._plan.clients.polling_for(client):
                guarded(client.poll, None, "a client could not be brought up to date")
        self._thread.contends = True
        self._check_at = self._plan.clock() + _CHECK_AFTER
