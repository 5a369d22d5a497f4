"""What a simulated process with an attached client does between its polls: it listens, renews and takes over.

`flagcache.core.schedule` decides what is due and when; this module waits for it in virtual time, as
`flagcache.worker.listener` and `flagcache.worker.background` do on a thread.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from flagcache.core import schedule
from flagcache.core.schedule import ClientActivity, Schedule
from flagcache.errors import StoreError
from flagcache.settings import milliseconds
from flagcache.stores.base import Notice

if TYPE_CHECKING:
    from benchmarks.scale.ours import Ours
    from benchmarks.scale.worker import Worker

__all__ = ["Background"]

_OFFSET = 0.1
"""Seconds over which the followers of a lost leader spread (`flagcache.worker.background`)."""

_RECONNECTS = (0.25, 1.0)
"""Seconds after which a listener that lost its connection makes another (`flagcache.worker.listener`)."""


class Background:
    """The listener of one process.

    Args:
        worker: whose.
        fleet: which it belongs to.
    """

    def __init__(self, worker: Worker, fleet: Ours) -> None:
        self._worker = worker
        self._fleet = fleet
        self._world = fleet.world
        self._offset = self._world.rng.uniform(0, _OFFSET)
        self._contended_at = -math.inf
        self._number = 0
        """Of the latest plan; earlier ones count no more."""
        self._pending: Notice | None = None
        self._reconnecting = False

    def listen(self, now: float) -> None:
        """Subscribe, if Redis is there."""
        try:
            self._fleet.redis.subscribe(now)
        except StoreError:
            return
        self._fleet.listeners[self._worker] = self

    def reconnect(self, now: float) -> None:
        """Redis answers: subscribe anew, once, if the connection was lost, and ask what was missed."""
        if self._worker not in self._fleet.listeners and not self._reconnecting:
            self._reconnecting = True
            self._world.timeline.at(now + self._world.rng.uniform(*_RECONNECTS), self._listen_again)

    def _listen_again(self, now: float) -> None:
        self._reconnecting = False
        if self._worker.over or self._worker in self._fleet.listeners:
            return
        self.listen(now)
        if self._worker in self._fleet.listeners:
            self._worker.catch_up()
            self._worker.ask(now, contend=False)

    def hear(self, now: float, notice: Notice) -> None:
        """A notice came; act upon it a little later, and once for several that come close together."""
        if self._pending is None:
            self._world.timeline.at(now + self._world.rng.uniform(0, self._fleet.spread), self._on_notice)
            self._pending = notice
        elif self._pending.kind != "free" or notice.kind == "free":
            self._pending = notice

    def _on_notice(self, now: float) -> None:
        notice, self._pending = self._pending, None
        if self._worker.over or notice is None:
            return
        self._worker.catch_up()
        held = self._worker.know.held
        if notice.kind != "new" or held is None or notice.version != held.meta.version:
            self._worker.ask(now, contend=notice.kind == "free")

    def config(self, now: float) -> None:
        """Plan what is due next."""
        self._number += 1
        number = self._number
        soonest = min(self._due(now).soonest, self._worker.probe_at)
        if soonest < math.inf:
            self._world.timeline.at(max(now, soonest), lambda then: self._attend(then, number))

    def _attend(self, now: float, number: int) -> None:
        if self._worker.over or number != self._number:
            return
        self._worker.catch_up()
        if now >= self._worker.probe_at:
            self._worker.ask(now, contend=False)
            return
        due = self._due(now)
        if now >= due.renew_at:
            self._renew(now)
        if now >= due.over_at:
            self._worker.forget_leadership(self._worker.in_charge)
        if now >= due.contend_at:
            self._contended_at = now
            self._worker.ask(now, contend=True)
        self.config(now)

    def _due(self, now: float) -> Schedule:
        activity = ClientActivity(
            polls_every=self._world.poll_interval,
            last_poll=self._worker.last_poll,
            able=True,
            longest_fetch=self._fleet.settings.fetch_timeout,
            offset=self._offset,
            interval=self._fleet.settings.refresh_interval,
            contended_at=self._contended_at,
        )
        return schedule.next_duty(
            self._worker.know, self._worker.know.view(self._worker.in_charge.store_name), activity, now
        )

    def _renew(self, now: float) -> None:
        lease, store = milliseconds(self._fleet.lease), self._worker.in_charge
        try:
            kept = store.renew(now, self._worker.me, lease)
        except StoreError:
            self._worker.lost(now, store)
            return
        if kept:
            self._worker.extended(now, store)
        else:
            self._worker.forget_leadership(store)
