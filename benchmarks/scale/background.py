"""The work of a simulated process with an attached client between its polls: it listens, renews and takes over.

`flagcache.core` decides what is due and when, and what follows from a notice; this module waits in virtual time, as
`flagcache.worker.listener` and `flagcache.worker.background` do on a thread.
"""

from __future__ import annotations

import math
from typing import Protocol

from benchmarks.scale.process import Process
from benchmarks.scale.shared import Shared
from flagcache.core import renewals, schedule
from flagcache.core.notices import Reaction, merged, reaction_to
from flagcache.core.pushes import PendingPush
from flagcache.core.schedule import ClientActivity, Schedule
from flagcache.errors import StoreError
from flagcache.settings import milliseconds
from flagcache.stores.base import Notice

__all__ = ["Background"]

_RECONNECTS = (0.25, 1.0)
"""Seconds until a listener that lost its connection opens a new one (`flagcache.worker.listener`)."""


class Pushes(Protocol):
    """The interface that the background needs of its worker."""

    def push(self, now: float, *, contend: bool) -> None:
        """Poll on behalf of the client; `contend` also for the lease, or as the deputy."""
        ...


class Background:
    """The listener of one process.

    Args:
        process: its state.
        shared: what its fleet has in common.
        worker: polls the stores.
    """

    def __init__(self, process: Process, shared: Shared, worker: Pushes) -> None:
        self._process = process
        self._shared = shared
        self._worker = worker
        self._world = shared.world
        self._offset = self._world.rng.uniform(0, schedule.OFFSET)
        self._contended_at = -math.inf
        self._number = 0
        """Number of the latest plan; earlier plans are void."""
        self._pending: Notice | None = None
        self._pushes = PendingPush.none(shared.settings.refresh_interval)
        self._reconnecting = False

    def _subscribed(self) -> bool:
        return self._process.me in self._shared.subscribers

    def listen(self, now: float) -> None:
        """Subscribe, if Redis is up."""
        try:
            self._shared.redis.subscribe(now)
        except StoreError:
            return
        self._shared.subscribers[self._process.me] = self

    def reconnect(self, now: float) -> None:
        """Redis answers: if the connection was lost, subscribe again, once, and poll for what was missed."""
        if not self._subscribed() and not self._reconnecting:
            self._reconnecting = True
            self._world.timeline.at(now + self._world.rng.uniform(*_RECONNECTS), self._listen_again)

    def _listen_again(self, now: float) -> None:
        self._reconnecting = False
        if self._process.over or self._subscribed():
            return
        self.listen(now)
        if self._subscribed():
            self._process.catch_up()
            self._push(now, contend=False)

    def hear(self, now: float, notice: Notice) -> None:
        """A notice came: act on it a little later, and only once for several that come close together."""
        if self._pending is None:
            self._world.timeline.at(now + self._world.rng.uniform(0, self._shared.spread), self._on_notice)
            self._pending = notice
        else:
            self._pending = merged(self._pending, notice)

    def _on_notice(self, now: float) -> None:
        notice, self._pending = self._pending, None
        if self._process.over or notice is None:
            return
        self._process.catch_up()
        know = self._process.know
        leads = know.view(self._process.in_charge.store_name).leads
        reaction = reaction_to(notice, know.held, leads=leads)
        if reaction is not Reaction.CHECK:
            self._push(now, contend=reaction is Reaction.CONTEND)

    def _push(self, now: float, *, contend: bool) -> None:
        """Push now, or once the limit allows it."""
        self._pushes = self._pushes.asked(contend=contend)
        if now < self._pushes.due_at:
            self.plan(now)
        else:
            self._make_push(now)

    def _make_push(self, now: float) -> None:
        pending, self._pushes = self._pushes, self._pushes.made(now)
        self._worker.push(now, contend=bool(pending.contend))

    def plan(self, now: float) -> None:
        """Plan what is due next."""
        self._number += 1
        number = self._number
        soonest = min(self._due(now).soonest, self._process.probe_at, self._pushes.due_at)
        if soonest < math.inf:
            self._world.timeline.at(max(now, soonest), lambda then: self._attend(then, number))

    def _attend(self, now: float, number: int) -> None:
        if self._process.over or number != self._number:
            return
        self._process.catch_up()
        if now >= self._process.probe_at:
            self._worker.push(now, contend=False)
            return
        due = self._due(now)
        if now >= due.renew_at:
            self._renew(now)
        if now >= due.over_at:
            self._process.lease_lost(self._process.in_charge)
        if now >= self._pushes.due_at:
            self._make_push(now)
        if now >= due.contend_at:
            self._contended_at = now
            self._worker.push(now, contend=True)
        self.plan(now)

    def _due(self, now: float) -> Schedule:
        activity = ClientActivity(
            polls_every=self._world.poll_interval,
            last_poll=self._process.last_poll,
            able=True,
            longest_fetch=self._shared.settings.fetch_timeout,
            interval=self._shared.settings.refresh_interval,
            fetching=self._process.fetching,
            offset=self._offset,
            contended_at=self._contended_at,
        )
        return schedule.next_duty(
            self._process.know, self._process.know.view(self._process.in_charge.store_name), activity, now
        )

    def _renew(self, now: float) -> None:
        store = self._process.in_charge
        know, settings = self._process.know, self._shared.settings
        seconds = renewals.seconds_to_renew(know, store.store_name, settings, self._shared.lease_seconds)
        if self._process.reach(now, store, lambda: store.renew(now, self._process.me, milliseconds(seconds))):
            self._process.extended(now, store, seconds)
        else:
            self._process.lease_lost(store)
