"""The write path: the results of fetches, repairs of stores, and the copy on this machine's disk.

Only this module publishes to a store, confirms what it holds, or reports a failure. Invariant: superseded definitions
are never published, and another project's definitions are never overwritten.
"""

from __future__ import annotations

import random

from flagcache.core import knowledge, publication, schedule
from flagcache.core.fetches import without_note
from flagcache.core.knowledge import Held
from flagcache.core.projects import join_projects
from flagcache.encoding.stamps import SignedBackoff
from flagcache.errors import StoreError
from flagcache.events import LateFetchRefused
from flagcache.settings import milliseconds
from flagcache.stores.base import Grant, Meta, Published, Replacing, Scope, Store
from flagcache.vendor import Definitions, Refused
from flagcache.worker.config import CacheConfig
from flagcache.worker.fetch_limit import FetchLimit
from flagcache.worker.grants import PollOutcome
from flagcache.worker.malformed import MalformedDefinitions
from flagcache.worker.managed_store import ManagedStore
from flagcache.worker.state import ProcessState

__all__ = ["Publisher"]

_TOO_OFTEN = Refused("this process has fetched too often", Scope.MINE)
_UNSHAREABLE = Refused("what it brought cannot be shared", Scope.MINE)


class Publisher:
    """Writes to the stores of one process.

    Args:
        config: what all processes of the cache have in common.
        state: what this process knows.
    """

    def __init__(self, config: CacheConfig, state: ProcessState) -> None:
        self._config = config
        self._state = state
        self._malformed = MalformedDefinitions(config.namespace, config.events)
        self._limit = FetchLimit(config.settings.refresh_interval, config.clock)

    @property
    def held(self) -> Held | None:
        """What this process holds."""
        return self._state.know.held

    def admits(self, store_name: str, grant: Grant) -> bool:
        """Count a granted fetch. If this process fetched too often, return the grant to the store, and False.

        Until it may fetch again, this process asks for no grant.
        """
        if self._limit.take():
            return True
        self._note(store_name, grant, _TOO_OFTEN, 0.0)
        self._state.update(lambda know: know._replace(stay_out_until=self._limit.ready_at))
        return False

    def count_without_grant(self) -> None:
        """Count a fetch of the vendor's SDK without a grant. It is never refused, because its client has no flags."""
        self._limit.take()

    def name_of(self, store_name: str, definitions: Definitions) -> str:
        """Return the version of definitions that a fetch has just brought.

        If the store or this process has them under one of their names, they keep it. So neither a rotation of keys nor
        the change from plain to keyed names publishes them again.

        Raises:
            EnvelopeError: they contain what is not JSON.
        """
        know, names = self._state.know, self._config.codec.names(definitions)
        known = (know.view(store_name).stored, know.held.meta if know.held else None)
        return next((meta.version for meta in known if meta is not None and meta.version in names), names[0])

    def as_held(self, definitions: Definitions, outcome: PollOutcome, times: Grant, *, etag: str = "") -> Held:
        """Return the result of a fetch as the definitions to hold.

        Args:
            definitions: checked by the vendor.
            outcome: of the poll that permitted the fetch.
            times: of its grant.
            etag: from the vendor's answer; empty if it had none, or if the vendor's SDK fetched.

        Raises:
            EnvelopeError: as `name_of`.
        """
        version = self.name_of(outcome.store_name, definitions)
        meta = Meta(
            version=version,
            epoch=times.epoch,
            as_of=times.as_of,
            changed_at=knowledge.changed_at(self._state.know, outcome.store_name, version, times),
            confirmed_at=times.at,
            etag=etag,
            writer=self._config.vendor.writer,
            project=self._config.vendor.project(definitions),
        )
        return Held(meta, definitions, outcome.store_name, outcome.asked_at, accepted=False)

    def own_fetch_failed(self, store_name: str, grant: Grant) -> None:
        """A fetch by the SDK of this process failed; the SDK doesn't report why."""
        self.fail(store_name, grant, Refused("it brought no definitions (the log of the SDK says why)", Scope.MINE))

    def malformed(self, parts: tuple[str, ...]) -> None:
        """Report the malformed parts of what a fetch has just brought, if any (`Vendor.malformed`)."""
        self._malformed.fetched(parts)

    def publish(self, held: Held, grant: Grant) -> None:
        """Publish what a fetch brought."""
        self._state.fetch_succeeded(brought=True)
        self._offer(self._of_our_project(held), grant)

    def confirm(self, held: Held, grant: Grant) -> None:
        """The vendor answered "unchanged": confirm what this process holds."""
        self._state.fetch_succeeded(brought=False)
        self._offer(self._of_our_project(held), grant)

    def _of_our_project(self, held: Held) -> Held:
        """Return it with this process's project, taken from these definitions and its own clients.

        What other processes stored is left out, because their token may have been reset since.
        """
        project = join_projects(self._config.vendor.project(held.definitions), self._config.clients.project)
        self._state.update(lambda know: know._replace(project=join_projects(project, know.project)))
        return held._replace(meta=held.meta._replace(project=project))

    def fail(self, store_name: str, grant: Grant, refused: Refused) -> None:
        """A fetch failed: note it for all processes, or make this one stay out, depending on the failure's scope."""
        settings, now = self._config.settings, self._config.clock()
        pause = schedule.pause_after(self._state.know, refused, settings, random.random())
        if self._note(store_name, grant, refused, pause):
            self._state.fetch_failed(store_name, refused, now, pause)

    def abandon(self, store_name: str, grant: Grant, refused: Refused) -> None:
        """This process cancelled its fetch because it exits: no failure, and another process may fetch."""
        self._note(store_name, grant, refused, 0.0)

    def _note(self, store_name: str, grant: Grant, refused: Refused, pause: float) -> bool:
        """Report a failure to the store; False if the store has given a later grant since and ignores it."""
        found = self._state.stores.named(store_name)
        if found is None:
            return True
        managed, store = found
        retry_after = milliseconds(pause)
        status = refused.status if refused.scope is Scope.EVERYBODY else 0  # else the stamp could prove a note
        try:
            noted = store.fail(
                self._state.me,
                grant.as_of,
                refused.scope,
                status=refused.status,
                retry_after=retry_after,
                stamp=self._config.codec.stamps.of_backoff(SignedBackoff(status, grant.at, retry_after)),
            )
        except StoreError as exc:
            self._state.store_failed(managed, exc)
            return True
        self._state.stores.answered(managed)
        if noted and refused.scope is Scope.MINE:
            self._state.lease_released(managed)
        return noted

    def _offer(self, held: Held, times: Grant) -> None:
        """Offer the store what was just fetched, and adopt it unless the store refuses it as late.

        If the store can't be reached, it is adopted, and offered to the store that answers next.
        """
        foreign = knowledge.is_foreign(self._state.know, self._state.know.view(held.store_name).stored)
        found = None if foreign else self._state.stores.named(held.store_name)
        if found is not None:
            managed, store = found
            try:
                published = self._publish(managed, store, held, times)
                late = published is Published.STALE and self._is_late(store, times)
            except StoreError as exc:
                self._state.store_failed(managed, exc)
            else:
                wrote = published in (Published.STORED, Published.CONFIRMED)
                self._state.stores.answered(managed, wrote=wrote, stored=published is Published.STORED)
                managed.held = held.meta.version if wrote else managed.held
                if published is None:  # no store accepts it: other workers must fetch it themselves
                    self._note(managed.store_name, times, _UNSHAREABLE, 0.0)
                kept = publication.after_offer(held, published, late=late, now=self._config.clock())
                if published in (Published.STALE, Published.UNSETTLED):
                    name, version = managed.store_name, held.meta.version
                    self._state.emit(LateFetchRefused(self._config.namespace, version, name, kept is not None))
                if kept is None:
                    return
                held = kept
        store_name, now = held.store_name, self._config.clock()
        self._state.update(lambda know: without_note(know, store_name, now))
        self._state.adopt(held, fetched=True)

    def _is_late(self, store: Store, times: Grant) -> bool:
        """Whether the store really has newer definitions. With a key only a signed time proves that, not their order.

        Raises:
            StoreError: the store does not answer.
        """
        stamps = self._config.codec.stamps
        if not stamps.signs:
            return True
        found = store.inspect()
        signed = None if found.meta is None else stamps.times(found.meta.version, found.meta.stamp)
        return signed is not None and times.at <= signed.confirmed_at <= found.clock

    def _publish(self, managed: ManagedStore, store: Store, held: Held, times: Grant) -> Published | None:
        """Confirm or publish what was fetched; None if every reader would refuse it."""
        offer = publication.plan_offer(held.meta, self._state.know.view(managed.store_name).stored)
        version = offer.meta.version
        if offer.confirm_first and self.confirm_stored(managed, store, version, times):
            return Published.CONFIRMED
        published = self.put(managed, store, held, offer.meta, fresh=True)
        late = published in (Published.STALE, Published.UNSETTLED)
        if late and offer.confirm_if_late and self.confirm_stored(managed, store, version, times):
            return Published.CONFIRMED
        return published

    def repair(
        self, managed: ManagedStore, store: Store, clock: int, place: Replacing | None = None
    ) -> Published | None:
        """Publish what is held to a store that lacks it. If no store has accepted it yet, a newer version wins.

        Args:
            managed: the store.
            store: the same, opened.
            clock: its clock.
            place: the only version that may be replaced, whatever its order.
        """
        held = self._state.know.held
        if held is None:
            return None
        meta = knowledge.meta_for_store(held, managed.store_name, clock, self._config.clock())
        published = self.put(managed, store, held, meta, fresh=not held.accepted, replacing=place)
        kept = publication.after_repair(
            held, meta, managed.store_name, published, replacing=place is not None, signs=self._state.know.signs
        )
        if published in (Published.STORED, Published.CONFIRMED):
            self._state.stores.answered(managed, wrote=True, stored=published is Published.STORED)
            managed.held = meta.version
        elif kept is not held:
            self._state.emit(LateFetchRefused(self._config.namespace, meta.version, managed.store_name))
        if kept is not held:
            self._state.update(lambda know: know._replace(held=kept) if know.held is held else know)
        return published

    def put(
        self,
        managed: ManagedStore,
        store: Store,
        held: Held,
        meta: Meta,
        *,
        fresh: bool,
        replacing: Replacing | None = None,
    ) -> Published | None:
        """Publish these definitions under these metadata; None, reported once, if every reader would refuse them."""
        envelope = self._state.encoded.envelope(held, meta)
        if envelope is None:
            return None
        published = store.publish(self._state.me, envelope, fresh=fresh, lease=self._lease, replacing=replacing)
        if published in (Published.STORED, Published.CONFIRMED):
            self._state.lease_extended(managed, self._config.lease)
        return published

    def confirm_stored(self, managed: ManagedStore, store: Store, version: str, times: Grant) -> bool:
        """Move the ages of the stored version to these times; False if the store has another version, or none."""
        stamp = self._config.codec.stamp_of(version, times)
        confirmed = store.confirm(self._state.me, version, times, lease=self._lease, stamp=stamp)
        if confirmed:
            self._state.lease_extended(managed, self._config.lease)
        return confirmed

    @property
    def _lease(self) -> int:
        return milliseconds(self._config.lease)
