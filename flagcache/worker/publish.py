"""What a fetch brought, and what the fleet is told of it: definitions, "unchanged", or a failure.

Must never publish what was overtaken, nor over another project's definitions.
"""

from __future__ import annotations

import random

from flagcache.core import knowledge as election
from flagcache.core.knowledge import Held
from flagcache.core.projects import join_projects
from flagcache.errors import StoreError
from flagcache.events import FetchFailed, FetchRecovered, LateFetchRefused
from flagcache.settings import milliseconds
from flagcache.stores.base import Grant, Published, Scope, Store
from flagcache.vendor import Refused
from flagcache.worker.config import Plan
from flagcache.worker.failover import Tier
from flagcache.worker.state import Ledger

__all__ = ["Reports"]

_LONGEST_RETRY_AFTER = 300.0
"""Seconds for which a vendor's Retry-After is believed at most."""

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

    @property
    def held(self) -> Held | None:
        """What this process holds."""
        return self._ledger.know.held

    def changed_at(self, home: str, version: str, times: Grant) -> int:
        """When the content that a fetch has just brought first came."""
        return election.changed_at(self._ledger.know, home, version, times)

    def own_fetch_failed(self, home: str, grant: Grant) -> None:
        """A fetch by the SDK of this process certainly failed; why, it does not tell."""
        self.refused(home, grant, Refused("it brought no definitions (the log of the SDK says why)", Scope.MINE))

    def fetched(self, held: Held, grant: Grant) -> None:
        """The fleet's own fetch brought definitions."""
        self._recovered()
        self._ledger.learn(
            lambda know: know._replace(received=True, project=join_projects(held.meta.project, know.project))
        )
        self._offer(held._replace(meta=held.meta._replace(project=self._ledger.know.project)), grant)

    def confirmed(self, held: Held, grant: Grant) -> None:
        """The vendor said that what this process holds is still right."""
        self._recovered()
        self._offer(held, grant)

    def refused(self, home: str, grant: Grant, refused: Refused) -> None:
        """A fetch failed: what concerns all is noted for all, what concerns this process makes it stay out."""
        settings = self._plan.settings
        pause = election.backoff(self._ledger.know.failures, settings, random.random())
        if refused.retry_after is not None and refused.scope is Scope.EVERYBODY:
            pause = min(max(refused.retry_after, pause), max(_LONGEST_RETRY_AFTER, settings.backoff_ceiling))
        if not self._note(home, grant, refused, pause):
            return
        first = not self._ledger.know.failures
        self._ledger.learn(lambda know: election.failed(know, refused, self._plan.clock(), pause))
        if first:
            self._ledger.emit(FetchFailed(self._plan.namespace, refused.reason, refused.status, refused.scope, pause))

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
        try:
            noted = store.fail(
                self._ledger.me, grant.as_of, refused.scope, status=refused.status, retry_after=retry_after
            )
        except StoreError as exc:
            self._ledger.lost(tier, exc)
            return True
        self._ledger.tiers.answered(tier)
        if noted and refused.scope is Scope.MINE:
            self._ledger.gave_up(tier)
        return noted

    def _recovered(self) -> None:
        if self._ledger.know.failures:
            self._ledger.emit(FetchRecovered(self._plan.namespace))
        self._ledger.learn(lambda know: know._replace(failures=0, stay_out_until=0.0, note_status=0, retry_at=0.0))

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
                self._ledger.tiers.answered(tier)
                if published is None:  # nobody can have it from here: others are to fetch it for themselves
                    self._note(tier.home, times, _UNSHAREABLE, 0.0)
                if published is Published.STALE:
                    self._ledger.emit(LateFetchRefused(self._plan.namespace, held.meta.version, tier.home))
                    return
                held = held._replace(accepted=True)
        self._ledger.take(held, fetched=True)

    def _publish(self, tier: Tier, store: Store, held: Held, times: Grant) -> Published | None:
        """Confirm or publish; None for what no reader would take."""
        meta, stored, lease = held.meta, self._ledger.know.contact(tier.home).stored, milliseconds(self._plan.lease)
        known = stored is not None and stored.version == meta.version and meta.etag in ("", stored.etag)
        published = Published.CONFIRMED
        if not known or not store.confirm(self._ledger.me, meta.version, times, lease=lease):
            envelope = self._ledger.envelope(held, meta)
            if envelope is None:
                return None
            published = store.publish(self._ledger.me, envelope, fresh=True, lease=lease)
        if published is not Published.STALE:
            self._ledger.extended(tier, self._plan.lease)
        return published
