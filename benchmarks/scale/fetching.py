"""What a simulated process does with a grant: it asks PostHog, and publishes the answer.

It does in virtual time what `flagcache.worker.fetch` and `flagcache.worker.publish` do on threads; for a process
without an attached client, what its SDK does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.scale.stores import HostFile
from benchmarks.scale.world import Answer
from flagcache.core import knowledge, schedule
from flagcache.core.knowledge import Held
from flagcache.core.notes import Note
from flagcache.errors import StoreError
from flagcache.settings import milliseconds
from flagcache.stores.base import Grant, Meta, Published, Scope
from flagcache.vendor import Refused

if TYPE_CHECKING:
    from benchmarks.scale.ours import Ours
    from benchmarks.scale.worker import Worker

__all__ = ["FetchThread"]


class FetchThread:
    """The fetches of one process.

    Args:
        worker: whose.
        fleet: which it belongs to.
    """

    def __init__(self, worker: Worker, fleet: Ours) -> None:
        self._worker = worker
        self._fleet = fleet
        self._world = fleet.world
        self.busy = False
        self._sdk_version: int | None = None
        """What the entity tag of its own SDK names, where the SDK fetches."""
        self._in_vain: tuple[HostFile, Grant] | None = None
        """The grant on which its SDK was sent to fetch, until that has brought something."""

    def begin(self, now: float, store: HostFile, grant: Grant, asked: float) -> None:
        """Ask PostHog: attached with the entity tag of what the fleet holds, else with the SDK's own."""
        self.busy = True
        held = self._worker.know.held
        known = self._sdk_version
        if self._fleet.attached:
            known = self._fleet.number_of(held.meta.etag) if held is not None and held.meta.etag else None
        answer = self._world.posthog.request(now, known)
        outcome = _Errand(store, grant, asked, answer)
        self._world.timeline.at(now + self._world.machine.fetch, lambda then: self._end(then, outcome))

    def sdk_asks_again(self, now: float) -> None:
        """The SDK's own fetch has ended and brought nothing: a failure, if it never brought anything."""
        vain, self._in_vain = self._in_vain, None
        if vain is not None and not self._worker.know.received:
            self._refused(now, vain[0], vain[1], Refused("nothing", Scope.MINE))

    def repair(self, now: float, store: HostFile, clock: int) -> None:
        """Give a store what it lost, as old as it is."""
        worker, held = self._worker, self._worker.know.held
        if held is None:
            return
        meta = knowledge.repair(held, store.store_name, clock, now)
        published = self._publish(now, store, meta, fresh=not held.accepted)
        if published is Published.UNSETTLED:
            return
        if published is not Published.STALE:
            worker.know = worker.know._replace(
                held=held._replace(meta=meta, store_name=store.store_name, accepted=True)
            )
        elif not held.accepted:
            worker.know = worker.know._replace(held=knowledge.superseded(held))

    def _end(self, now: float, outcome: _Errand) -> None:
        worker, grant, status = self._worker, outcome.grant, outcome.answer.status
        self.busy = False
        if worker.over:
            return
        worker.catch_up()
        if status == 200:
            self._sdk_version = outcome.answer.version
            worker.know = worker.know._replace(received=True)
            self._offer(now, outcome, self._meta(outcome))
        elif not self._fleet.attached:
            self._in_vain = outcome.store, grant
        elif status == 304 and worker.know.held is not None:
            meta = worker.know.held.meta._replace(epoch=grant.epoch, as_of=grant.as_of, confirmed_at=grant.at)
            self._offer(now, outcome, meta)
        else:
            self._refused(now, outcome.store, grant, Refused("", Scope.EVERYBODY, status))
        worker.settle(now)

    def _meta(self, outcome: _Errand) -> Meta:
        grant, version = outcome.grant, self._fleet.version_of(outcome.answer.version)
        return Meta(
            version=version,
            epoch=grant.epoch,
            as_of=grant.as_of,
            changed_at=knowledge.changed_at(self._worker.know, outcome.store.store_name, version, grant),
            confirmed_at=grant.at,
            etag=version if self._fleet.attached else "",
            writer="posthog-python/7.91.1",
            project="team=1 key=3fb2a9c0d4e1",
        )

    def _offer(self, now: float, outcome: _Errand, meta: Meta) -> None:
        """Confirm or publish what a fetch brought, and hold it unless it is refused as late."""
        worker, store, grant = self._worker, outcome.store, outcome.grant
        worker.know = worker.know._replace(failures=0, stay_out_until=0.0, backoff=Note())
        held = Held(meta, {}, store.store_name, outcome.asked, accepted=False)
        stored = worker.know.view(store.store_name).stored
        known = stored is not None and stored.version == meta.version and meta.etag in ("", stored.etag)
        lease = milliseconds(self._fleet.lease)
        try:
            done = known and store.confirm(now, worker.me, meta.version, grant, lease)
            published = Published.CONFIRMED if done else self._publish(now, store, meta, fresh=True)
            if published is Published.STALE:
                return
        except StoreError:
            worker.lost(now, store)
        else:
            if published is Published.UNSETTLED:
                held = held._replace(unsettled=now)
            else:
                held = held._replace(accepted=True)
                worker.extended(now, store)
        worker.take(now, held)

    def _publish(self, now: float, store: HostFile, meta: Meta, *, fresh: bool) -> Published:
        lease = milliseconds(self._fleet.lease)
        return store.publish(now, self._worker.me, self._fleet.envelope(meta), fresh=fresh, lease=lease)

    def _refused(self, now: float, store: HostFile, grant: Grant, refused: Refused) -> None:
        worker, status = self._worker, refused.status
        pause = schedule.backoff(worker.know.failures, self._fleet.settings, self._world.rng.random())
        try:
            retry_after = milliseconds(pause)
            if not store.fail(now, worker.me, grant.as_of, refused.scope, status=status, retry_after=retry_after):
                return
        except StoreError:
            worker.lost(now, store)
        worker.know = knowledge.apply_failure(worker.know, store.store_name, refused, now, pause)
        if refused.scope is Scope.MINE:
            view = worker.know.view(store.store_name)
            worker.know = worker.know.with_view(store.store_name, view._replace(leads=False, lease_ends=now))


@dataclass(frozen=True, slots=True)
class _Errand:
    store: HostFile
    grant: Grant
    asked: float
    answer: Answer
