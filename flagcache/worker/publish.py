"""What a fetch brought, and what the fleet learns of it: definitions, "unchanged", or a failure.

Must never publish what was overtaken, nor over another project's definitions.
"""

from __future__ import annotations

import random

from flagcache.core import knowledge as election
from flagcache.core import schedule as duties
from flagcache.core.knowledge import Held
from flagcache.core.notes import Note, longest_note
from flagcache.core.projects import join_projects
from flagcache.encoding.stamps import SignedNote
from flagcache.errors import StoreError
from flagcache.events import LateFetchRefused
from flagcache.settings import milliseconds
from flagcache.stores.base import Grant, Published, Scope, Store
from flagcache.stores.rules.fields import is_text
from flagcache.vendor import Definitions, Refused
from flagcache.worker.config import Plan
from flagcache.worker.failover import Tier
from flagcache.worker.fetch_limit import FetchLimit
from flagcache.worker.malformed import MalformedDefinitions
from flagcache.worker.state import Ledger

__all__ = ["Reports"]

_TOO_OFTEN = Refused("this process has fetched too often", Scope.MINE)
_UNSHAREABLE = Refused("what it brought cannot be shared", Scope.MINE)


class Reports:
    """Reports the fetches of one process.

    Args:
        plan: what all processes of the cache have in common.
        ledger: what this process knows.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self._malformed = MalformedDefinitions(plan.namespace, plan.events)
        self._limit = FetchLimit(plan.settings.refresh_interval, plan.clock)

    @property
    def held(self) -> Held | None:
        """What this process holds."""
        return self._ledger.know.held

    def changed_at(self, home: str, version: str, times: Grant) -> int:
        """When the content that a fetch has just brought first came."""
        return election.changed_at(self._ledger.know, home, version, times)

    def admits(self, home: str, grant: Grant) -> bool:
        """Count the fetch that this process was granted. If there were too many, the grant is another one's to take.

        Until it may fetch again this process asks for no grant.
        """
        if self._limit.take():
            return True
        self._note(home, grant, _TOO_OFTEN, 0.0)
        self._ledger.learn(lambda know: know._replace(stay_out_until=self._limit.ready_at))
        return False

    def count_without_grant(self) -> None:
        """Count a fetch of the vendor's SDK that no store granted. It is never refused: its client has no flags."""
        self._limit.take()

    def name_of(self, home: str, definitions: Definitions) -> str:
        """The version of definitions that a fetch has just brought.

        If they are in the store or in this process already, under whichever of their names, they keep that name: keys
        are rotated, and workers of 0.1 knew no keyed names, without a publication for each.

        Raises:
            EnvelopeError: they hold what is not JSON.
        """
        know, names = self._ledger.know, self._plan.codec.names(definitions)
        known = (know.contact(home).stored, know.held.meta if know.held else None)
        return next((meta.version for meta in known if meta is not None and meta.version in names), names[0])

    def own_fetch_failed(self, home: str, grant: Grant) -> None:
        """A fetch by the SDK of this process certainly failed; why, it does not tell."""
        self.refused(home, grant, Refused("it brought no definitions (the log of the SDK says why)", Scope.MINE))

    def malformed(self, parts: tuple[str, ...]) -> None:
        """These parts of what a fetch has just brought are malformed, or none is (`Vendor.malformed`)."""
        self._malformed.fetched(parts)

    def fetched(self, held: Held, grant: Grant) -> None:
        """A fetch brought definitions."""
        self._ledger.fetch_succeeded()
        self._ledger.learn(lambda know: know._replace(received=True))
        self._offer(self._of_our_project(held), grant)

    def confirmed(self, held: Held, grant: Grant) -> None:
        """The vendor said that what this process holds is still right."""
        self._ledger.fetch_succeeded()
        self._offer(self._of_our_project(held), grant)

    def _of_our_project(self, held: Held) -> Held:
        """The same, with what this process knows of its project: by the definitions, and by its own clients.

        What it has learned from others is left out: the token that they had may have been reset since.
        """
        project = join_projects(self._plan.vendor.project(held.definitions), self._plan.clients.project)
        self._ledger.learn(lambda know: know._replace(project=join_projects(project, know.project)))
        return held._replace(meta=held.meta._replace(project=project))

    def refused(self, home: str, grant: Grant, refused: Refused) -> None:
        """A fetch failed: what concerns all is noted for all, what concerns this process makes it stay out."""
        settings, now = self._plan.settings, self._plan.clock()
        passing = not refused.status or refused.status >= 500
        cold = passing and self._ledger.know.held is None
        pause = duties.backoff(self._ledger.know.failures, settings, random.random(), cold=cold)
        if refused.retry_after is not None and refused.scope is Scope.EVERYBODY:
            pause = min(max(refused.retry_after, pause), longest_note(settings))
        if self._note(home, grant, refused, pause):
            self._ledger.fetch_failed(home, refused, now, pause)

    def called_off(self, home: str, grant: Grant, refused: Refused) -> None:
        """This process ended its fetch because it leaves: no trouble, but another one's turn."""
        self._note(home, grant, refused, 0.0)

    def _note(self, home: str, grant: Grant, refused: Refused, pause: float) -> bool:
        """Tell the store of a failure; False if a later grant was given since, and then it counts for nothing."""
        found = self._ledger.tiers.named(home)
        if found is None:
            return True
        tier, store = found
        retry_after = milliseconds(pause)
        status = refused.status if refused.scope is Scope.EVERYBODY else 0  # else it could be put in a note's place
        try:
            noted = store.fail(
                self._ledger.me,
                grant.as_of,
                refused.scope,
                status=refused.status,
                retry_after=retry_after,
                stamp=self._plan.codec.stamps.of_note(SignedNote(status, grant.at, retry_after)),
            )
        except StoreError as exc:
            self._ledger.lost(tier, exc)
            return True
        self._ledger.tiers.answered(tier)
        if noted and refused.scope is Scope.MINE:
            self._ledger.gave_up(tier)
        return noted

    def _offer(self, held: Held, times: Grant) -> None:
        """Give the store what was just fetched, and keep it, unless it is refused as late.

        A store that cannot be reached refuses nothing yet: what is held is offered to the store that answers next.
        """
        foreign = election.is_foreign(self._ledger.know, self._ledger.know.contact(held.home).stored)
        found = None if foreign else self._ledger.tiers.named(held.home)
        if found is not None:
            tier, store = found
            try:
                published = self._publish(tier, store, held, times)
            except StoreError as exc:
                self._ledger.lost(tier, exc)
            else:
                wrote = published in (Published.STORED, Published.CONFIRMED)
                self._ledger.tiers.answered(tier, wrote=wrote, stored=published is Published.STORED)
                tier.held = held.meta.version if wrote else tier.held
                if published is None:  # it cannot be shared: other workers must fetch it themselves
                    self._note(tier.home, times, _UNSHAREABLE, 0.0)
                if published in (Published.STALE, Published.UNSETTLED):
                    kept = published is Published.UNSETTLED or not self._is_late(store, times)
                    self._ledger.emit(LateFetchRefused(self._plan.namespace, held.meta.version, tier.home, kept))
                    if not kept:
                        return
                    # The vendor has just sent it, and what the store has is older.
                    held = held._replace(unsettled=self._plan.clock())
                else:
                    held = held._replace(accepted=True)
        # Only now: a poll that asked before the store was given this has heard of the old failure.
        note = Note(home=held.home, at=self._plan.clock())
        self._ledger.learn(lambda know: know._replace(note=note))
        self._ledger.take(held, fetched=True)

    def _is_late(self, store: Store, times: Grant) -> bool:
        """Whether what a store calls newer is so: with a key a process believes its own fetch more than an order.

        Raises:
            StoreError: the store does not answer.
        """
        stamps = self._plan.codec.stamps
        if not stamps.signs:
            return True
        found = store.inspect()
        signed = None if found.meta is None else stamps.times(found.meta.version, found.meta.stamp)
        return signed is not None and times.at <= signed.confirmed_at <= found.clock

    def _publish(self, tier: Tier, store: Store, held: Held, times: Grant) -> Published | None:
        """Confirm or publish; None for what no reader would take.

        Who knows of the project what the store doesn't, such as its new token, publishes the same version anew: without
        that, processes that know nothing else of their project would take what is stored for another's.
        """
        meta, stored, lease = held.meta, self._ledger.know.contact(tier.home).stored, milliseconds(self._plan.lease)
        known = stored is not None and stored.version == meta.version and meta.etag in ("", stored.etag)
        news, stamp = False, self._plan.codec.stamp_of(meta.version, times)
        if known and stored is not None:
            joined = join_projects(meta.project, stored.project)
            meta = meta._replace(project=joined if is_text(joined) else meta.project)  # longer than any store takes
            news = meta.project != join_projects(stored.project, "")
        published = Published.CONFIRMED
        if news or not known or not store.confirm(self._ledger.me, meta.version, times, lease=lease, stamp=stamp):
            envelope = self._ledger.envelope(held, meta)
            if envelope is None:
                return None
            published = store.publish(self._ledger.me, envelope, fresh=True, lease=lease)
            late = published in (Published.STALE, Published.UNSETTLED)
            if late and news and store.confirm(self._ledger.me, meta.version, times, lease=lease, stamp=stamp):
                published = Published.CONFIRMED
        if published in (Published.STORED, Published.CONFIRMED):
            self._ledger.extended(tier, self._plan.lease)
        return published
