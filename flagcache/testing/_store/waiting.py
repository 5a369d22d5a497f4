"""Waiting for a fetch: a reply says whether one is under way, and whether another may follow."""

from __future__ import annotations

from flagcache.stores.base import Scope, Store
from flagcache.testing._store.cases import AT_ONCE, LONG, SHORT, Cases, PassTime, Worker, repair

__all__ = ["WaitingCases"]


class WaitingCases(Cases):
    """What a worker sees that only looks."""

    def test_a_fetch_under_way_is_seen_by_others(self, store: Store, other: Store) -> None:
        """Other workers see a fetch from its grant until its answer; the worker that makes it does not."""
        repair(store, "v1")
        leader, looks = Worker(store, "a"), Worker(other, "b", may_lead=False)
        assert not looks.poll().fetching
        grant = leader.granted()
        assert looks.poll().fetching
        assert not leader.poll().fetching
        leader.publish(grant, "v2")
        assert not looks.poll().fetching

    def test_a_leaders_later_grants_are_not_waited_for(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """The leader's SDK may have received "unchanged", which it doesn't report, so workers don't wait."""
        repair(store, "v1")
        leader, looks = Worker(store, "a", interval=AT_ONCE), Worker(other, "b", may_lead=False)
        leader.bring("v2")
        pass_time(SHORT)
        leader.granted()
        assert not looks.poll().fetching

    def test_a_fetch_that_failed_is_over(self, store: Store, other: Store) -> None:
        """A failed fetch is over, whether it concerns one worker or all."""
        repair(store, "v1")
        leader, looks = Worker(store, "a"), Worker(other, "b", may_lead=False)
        leader.fail(leader.granted())
        assert not looks.poll().fetching
        leader.fail(leader.granted(), Scope.EVERYBODY, status=500, retry_after=LONG)
        assert not looks.poll().fetching

    def test_a_holder_that_left_is_not_waited_for(self, store: Store, other: Store) -> None:
        """If the holder gave up its lease during the fetch, no worker waits for it."""
        repair(store, "v1")
        leader, looks = Worker(store, "a"), Worker(other, "b", may_lead=False)
        leader.granted()
        assert store.release("a", idle=False)
        assert not looks.poll().fetching

    def test_a_holder_that_renews_no_more_is_not_waited_for(
        self, store: Store, other: Store, pass_time: PassTime
    ) -> None:
        """No worker waits longer for it than a cold lease lasts."""
        repair(store, "v1")
        leader, looks = Worker(store, "a"), Worker(other, "b", may_lead=False, cold_lease=SHORT)
        leader.granted()
        pass_time(SHORT)
        assert not looks.poll().fetching
        assert store.renew("a", LONG)
        assert Worker(other, "c", may_lead=False).poll().fetching

    def test_after_three_failed_tries_none_is_left(self, store: Store, other: Store) -> None:
        """After three failed tries none is left until the next fetch is due, and all replies say so."""
        leader, looks = Worker(store, "a"), Worker(other, "b", may_lead=False)
        for _ in range(3):
            assert not looks.poll().exhausted
            leader.fail(leader.granted())
        assert looks.poll().exhausted
