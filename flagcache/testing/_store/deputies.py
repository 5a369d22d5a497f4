"""Deputies: one follower checks whether the due fetch was granted, and takes it if the leader is dead."""

from __future__ import annotations

from flagcache.stores.base import Scope, Store
from flagcache.testing._store.cases import LONG, Cases, PassTime, Worker, repair

__all__ = ["DeputyCases"]

GRACE = 2000
"""Milliseconds for which a due fetch is left to the leader (`flagcache.stores.rules.leases.GRACE`)."""

INTERVAL = 60_000
"""Milliseconds, so long that a slow machine can't make a fetch due early."""


def reporting(store: Store, me: str) -> Worker:
    """Return a worker that reports each answer to its fetches."""
    return Worker(store, me, interval=INTERVAL, reports=True)


class DeputyCases(Cases):
    """A deputy watches the grant, and not only the lease."""

    def test_the_first_follower_becomes_deputy(self, store: Store, other: Store) -> None:
        """The deputy is a worker that reports, never the leader, and there is one at a time."""
        leader = reporting(store, "a")
        leader.bring("v1")
        assert not leader.poll().deputy
        assert not Worker(other, "silent").poll().deputy
        assert reporting(other, "b").poll().deputy
        assert not reporting(store, "c").poll().deputy
        assert reporting(other, "b").poll().deputy

    def test_a_deputy_that_leaves_makes_room(self, store: Store, other: Store) -> None:
        """When a deputy leaves, its place is free at once, although it gives up no lease."""
        reporting(store, "a").bring("v1")
        assert reporting(other, "b").poll().deputy
        assert not other.release("b", idle=True)
        assert reporting(store, "c").poll().deputy

    def test_a_silent_deputy_is_replaced(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """A deputy that has not looked for two intervals is replaced by the next asker. Plain polls are no looks."""
        short = 100
        reporting(store, "a").bring("v1")
        deputy = reporting(other, "b")
        assert deputy.poll().deputy
        pass_time(2 * (short + GRACE))
        assert deputy.poll().deputy
        hasty = Worker(store, "c", interval=short, grant_age=0, reports=True)
        deputy.watches = True
        assert deputy.poll().deputy
        assert not hasty.poll().deputy
        pass_time(2 * (short + GRACE))
        assert not reporting(store, "d").poll().deputy
        deputy.watches = False
        assert deputy.poll().deputy
        assert hasty.poll().deputy

    def test_a_fetch_that_is_due_is_left_to_the_leader_first(self, store: Store, pass_time: PassTime) -> None:
        """Until a fetch has been due for two seconds, the lease decides."""
        short = 100
        Worker(store, "a", interval=short, reports=True).bring("v1")
        pass_time(short)
        reply = Worker(store, "b", interval=short, reports=True).poll()
        assert (reply.leads, reply.grant) == (False, None)

    def test_a_fetch_that_was_not_granted_is_taken(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """Two seconds after the fetch was due another worker leads and fetches, although the lease has not expired."""
        short = 100
        leader = Worker(store, "a", interval=short, lease=LONG, reports=True)
        leader.bring("v1")
        pass_time(short + GRACE)
        assert not Worker(other, "silent", interval=short).poll().leads
        assert not Worker(other, "seldom", interval=short, reports=True, listens=False).poll().leads
        assert not Worker(other, "c", interval=short, reports=True, may_lead=False).poll().leads
        Worker(other, "b", interval=short, reports=True).granted()
        reply = leader.poll()
        assert (reply.leads, reply.grant) == (False, None)

    def test_what_the_asker_knows_of_grants_counts(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """A worker that knows of a later grant, which the store has lost, takes nothing."""
        short = 100
        Worker(store, "a", interval=short, reports=True).bring("v1")
        pass_time(short + GRACE)
        assert not Worker(other, "b", interval=short, reports=True, grant_age=short).poll().leads

    def test_a_fetch_under_way_counts_as_begun(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """While the holder renews its lease no worker takes its place, however long the fetch lasts."""
        short = 100
        repair(store, "v1")
        leader = Worker(store, "a", interval=short, reports=True)
        leader.granted()
        pass_time(short + GRACE)
        assert store.renew("a", LONG)
        taker = Worker(other, "b", interval=short, reports=True)
        assert not taker.poll().leads
        pass_time(GRACE)
        taker.granted()

    def test_a_first_load_follows_a_holder_that_died(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """Two seconds after the holder's last renewal a starting worker is granted a fetch, before the next is due.

        Running workers leave it to the holder, and so does a starting one that may begin with what is stored.
        """
        short = INTERVAL * 2 // 3
        repair(store, "v1", age=INTERVAL)
        reporting(store, "a").granted()
        starter = Worker(other, "b", interval=short, starts=True)
        pass_time(GRACE)
        assert store.renew("a", LONG)
        assert not starter.poll().leads
        pass_time(GRACE)
        assert not Worker(other, "c", interval=short, reports=True).poll().leads
        assert not Worker(other, "d", interval=INTERVAL, starts=True).poll().leads
        starter.granted()

    def test_of_a_holder_that_does_not_listen_nothing_is_known(
        self, store: Store, other: Store, pass_time: PassTime
    ) -> None:
        """It renews only when it polls, so a starting worker doesn't take its lease."""
        repair(store, "v1", age=INTERVAL)
        Worker(store, "a", interval=INTERVAL, reports=True, listens=False).granted()
        pass_time(GRACE)
        assert not Worker(other, "b", interval=INTERVAL // 2, reports=True, starts=True).poll().leads

    def test_the_fetch_of_an_sdk_counts_as_begun(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """An SDK's fetch can't renew the lease meanwhile, so the lease decides."""
        short = 100
        repair(store, "v1")
        leader = Worker(store, "a", interval=short)
        leader.granted()
        pass_time(short + GRACE)
        assert not Worker(other, "b", interval=short, reports=True).poll().leads
        leader.idle = True
        leader.may_lead = False
        leader.poll()  # it is back, and brought nothing
        Worker(other, "b", interval=short, reports=True).granted()

    def test_a_note_is_waited_for(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """While a note stands nothing is due; after it the leader has its two seconds."""
        short = 100
        leader = Worker(store, "a", interval=short, reports=True)
        leader.bring("v1")
        pass_time(short)
        assert leader.fail(leader.granted(), Scope.EVERYBODY, status=503, retry_after=GRACE + 2 * short)
        pass_time(GRACE + 2 * short)
        assert not Worker(other, "b", interval=short, reports=True).poll().leads
        pass_time(GRACE)
        Worker(other, "b", interval=short, reports=True).granted()

    def test_an_empty_store_is_the_lease_s_business(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """In an empty store the short lease shows whether the first fetch is under way."""
        short = 100
        Worker(store, "a", interval=short, reports=True).granted()
        pass_time(short + GRACE)
        assert not Worker(other, "b", interval=short, reports=True).poll().leads
