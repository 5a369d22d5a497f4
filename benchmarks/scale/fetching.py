"""The fetches of a simulated process: with a grant it asks PostHog, and publishes the answer.

In virtual time this replaces the threads of `flagcache.worker.fetch` and `flagcache.worker.publish`; for a process
without an attached client, those of its SDK.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.scale.process import Process
from benchmarks.scale.shared import Shared, number_of, version_of
from benchmarks.scale.stores import HostFile
from benchmarks.scale.world import Answer
from flagcache.core import fetches, knowledge, publication, schedule
from flagcache.core.knowledge import Held
from flagcache.settings import milliseconds
from flagcache.stores.base import Grant, Meta, Published, Scope
from flagcache.vendor import Refused, Unchanged
from flagcache.worker.entity_tags import EntityTags

__all__ = ["Fetching"]


class Fetching:
    """The fetches of one process.

    Args:
        process: its state.
        shared: what its fleet has in common.
        over: called after each fetch.
    """

    def __init__(self, process: Process, shared: Shared, over: Callable[[float], None]) -> None:
        self._process = process
        self._shared = shared
        self._over = over
        self._world = shared.world
        self._tags = EntityTags()
        self._sdk_version: int | None = None
        """The version in the entity tag of its SDK, if the SDK fetches."""
        self._in_vain: tuple[HostFile, Grant] | None = None
        """The grant with which its SDK fetches, until the fetch brings definitions."""

    def begin(self, now: float, store: HostFile, grant: Grant, asked: float) -> None:
        """Ask PostHog: if attached, with the entity tag of the fleet's definitions, else with the SDK's own."""
        self._process.fetching = True
        held = self._process.know.held
        etag = self._tags.for_request(held.meta if held else None, grant.epoch) if self._shared.attached else ""
        known = number_of(etag) if etag else self._sdk_version
        answer = self._world.posthog.request(now, known)
        outcome = _Errand(store, grant, asked, answer, held, etag)
        self._world.timeline.at(now + self._world.machine.fetch, lambda then: self._end(then, outcome))

    def sdk_asks_again(self, now: float) -> None:
        """The SDK's fetch has ended without definitions: a failure if this process never received any."""
        vain, self._in_vain = self._in_vain, None
        if vain is not None and fetches.failed_silently(self._process.know, vain[1]):
            self._refused(now, vain[0], vain[1], Refused("nothing", Scope.MINE))

    def repair(self, now: float, store: HostFile, clock: int) -> None:
        """Publish the held definitions, with their age, to a store that lost them."""
        process, held = self._process, self._process.know.held
        if held is None:
            return
        meta = knowledge.meta_for_store(held, store.store_name, clock, now)
        published = self._publish(now, store, meta, fresh=not held.accepted)
        kept = publication.after_repair(
            held, meta, store.store_name, published, replacing=False, signs=process.know.signs
        )
        process.know = process.know._replace(held=kept)

    def _end(self, now: float, outcome: _Errand) -> None:
        process, grant, status = self._process, outcome.grant, outcome.answer.status
        process.fetching = False
        if process.over:
            return
        process.catch_up()
        if status == 200:
            self._offer(now, outcome, self._fetched(outcome), brought=True)
        elif not self._shared.attached:
            self._in_vain = outcome.store, grant
        else:
            self._end_without_definitions(now, outcome)
        self._over(now)

    def _end_without_definitions(self, now: float, outcome: _Errand) -> None:
        held, status, store, grant = outcome.held, outcome.answer.status, outcome.store, outcome.grant
        result = Unchanged() if status == 304 else Refused("", Scope.EVERYBODY, status)
        failure = fetches.failure_of(result, held, outcome.etag)
        if failure is not None:
            self._refused(now, store, grant, failure)
        elif held is not None:
            self._offer(now, outcome, fetches.confirmed(held, store.store_name, grant, outcome.asked), brought=False)

    def _fetched(self, outcome: _Errand) -> Held:
        grant, version = outcome.grant, version_of(outcome.answer.version)
        if self._shared.attached:
            self._tags.received(version, version)
        else:
            self._sdk_version = outcome.answer.version
        meta = Meta(
            version=version,
            epoch=grant.epoch,
            as_of=grant.as_of,
            changed_at=knowledge.changed_at(self._process.know, outcome.store.store_name, version, grant),
            confirmed_at=grant.at,
            etag=version if self._shared.attached else "",
            writer="posthog-python/7.91.1",
            project="team=1 key=3fb2a9c0d4e1",
        )
        brought = Held(meta, {}, outcome.store.store_name, outcome.asked, accepted=False)
        return fetches.fetched(brought, outcome.held)

    def _offer(self, now: float, outcome: _Errand, held: Held, *, brought: bool) -> None:
        """Confirm or publish the result of a fetch, and adopt it unless the store refuses it as late."""
        process, store, grant = self._process, outcome.store, outcome.grant
        process.know = fetches.apply_success(process.know, brought=brought)
        published = process.reach(now, store, lambda: self._given(now, store, held.meta, grant))
        if published is not None:
            kept = publication.after_offer(held, published, late=True, now=now)
            if kept is None:
                return
            held = kept
        process.know = fetches.without_note(process.know, store.store_name, now)
        process.take(now, held)

    def _given(self, now: float, store: HostFile, meta: Meta, grant: Grant) -> Published:
        """Confirm or publish what a fetch brought; return the store's verdict."""
        offer = publication.plan_offer(meta, self._process.know.view(store.store_name).stored)
        if offer.confirm_first and store.confirm(now, self._process.me, meta.version, grant, self._shared.lease):
            self._process.extended(now, store)
            return Published.CONFIRMED
        return self._publish(now, store, offer.meta, fresh=True)

    def _publish(self, now: float, store: HostFile, meta: Meta, *, fresh: bool) -> Published:
        envelope = self._shared.envelope(meta)
        published = store.publish(now, self._process.me, envelope, fresh=fresh, lease=self._shared.lease)
        if published in (Published.STORED, Published.CONFIRMED):
            self._process.extended(now, store)
        return published

    def _refused(self, now: float, store: HostFile, grant: Grant, refused: Refused) -> None:
        process, status = self._process, refused.status
        pause = schedule.pause_after(process.know, refused, self._shared.settings, self._world.rng.random())
        fail = partial(store.fail, now, process.me, grant.as_of, refused.scope)
        noted = process.reach(now, store, lambda: fail(status=status, retry_after=milliseconds(pause)))
        if noted is False:  # the store has given a later grant since
            return
        process.know = knowledge.apply_failure(process.know, store.store_name, refused, now, pause)
        if noted and refused.scope is Scope.MINE:
            process.released(now, store)


@dataclass(frozen=True, slots=True)
class _Errand:
    store: HostFile
    grant: Grant
    asked: float
    answer: Answer
    held: Held | None
    """What the process held before the request."""
    etag: str
