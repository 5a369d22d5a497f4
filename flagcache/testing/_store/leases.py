"""The lease: who leads, for how long, and how it changes hands."""

from __future__ import annotations

from flagcache.stores.base import Published, Scope, Store
from flagcache.testing._store.cases import LONG, SHORT, Cases, PassTime, Worker, envelope

__all__ = ["LeaseCases"]

HALF = LONG // 2

HURRY = 2000
"""Milliseconds for which the lease of an emptied store lasts, unless it is renewed."""


class LeaseCases(Cases):
    """One worker leads."""

    def test_the_first_to_ask_leads(self, store: Store, other: Store) -> None:
        """A free lease goes to the first asker that may lead; all others follow. Each reply says how long it lasts."""
        first, second = Worker(store, "a").poll(), Worker(other, "b").poll()
        assert (first.leads, second.leads) == (True, False)
        assert first.lease_left == LONG
        assert 0 < second.lease_left <= LONG

    def test_the_lease_belongs_to_an_identity(self, store: Store, other: Store) -> None:
        """An asker with the leader's identity leads, through any handle."""
        Worker(store, "a").poll()
        assert Worker(other, "a").poll().leads

    def test_a_poll_of_the_leader_renews_the_lease(self, store: Store) -> None:
        """Each poll of the leader sets the lease to the length that it names."""
        leader = Worker(store, "a", cold_lease=HALF)
        leader.poll()
        leader.cold_lease = LONG
        assert leader.poll().lease_left == LONG

    def test_a_poll_of_another_does_not_renew_the_lease(self, store: Store, other: Store) -> None:
        """A follower's poll doesn't change the lease, whatever length it names."""
        Worker(store, "a", cold_lease=HALF).poll()
        reply = Worker(other, "b", cold_lease=LONG).poll()
        assert 0 < reply.lease_left <= HALF

    def test_the_lease_ends_by_time(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """A leader that doesn't renew loses the lease when it expires, and the next asker leads."""
        leader = Worker(store, "a", cold_lease=SHORT)
        leader.poll()
        pass_time(SHORT)
        assert Worker(other, "reader", may_lead=False).poll().lease_left == 0
        assert Worker(other, "b").poll().leads
        assert not leader.poll().leads

    def test_a_released_lease_is_free_at_once(self, store: Store, other: Store) -> None:
        """After a release no worker leads, and the next asker does."""
        Worker(store, "a").poll()
        assert store.release("a", idle=True)
        assert store.inspect().leader == ""
        assert Worker(other, "b").poll().leads

    def test_only_its_holder_releases_the_lease(self, store: Store, other: Store) -> None:
        """A release by another worker, or of a free lease, returns False and does nothing."""
        assert not store.release("a", idle=True)
        Worker(store, "a").poll()
        assert not other.release("b", idle=True)
        assert store.inspect().leader == "a"
        assert store.release("a", idle=True)
        assert not store.release("a", idle=True)

    def test_its_holder_renews_the_lease_without_a_poll(self, store: Store) -> None:
        """`renew` sets the lease to the length that it names."""
        Worker(store, "a", cold_lease=HALF).poll()
        assert store.renew("a", LONG)
        assert HALF < store.inspect().lease_left <= LONG

    def test_only_its_holder_renews_the_lease(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """`renew` of a free lease, of another's, or of an expired one returns False and does nothing."""
        assert not store.renew("a", LONG)
        assert store.inspect().leader == ""
        Worker(store, "a", cold_lease=HALF).poll()
        assert not other.renew("b", LONG)
        assert store.inspect().lease_left <= HALF
        assert store.renew("a", SHORT)
        pass_time(SHORT)
        assert not store.renew("a", LONG)

    def test_who_may_not_lead_neither_takes_nor_renews(self, store: Store) -> None:
        """A poll that may not lead leaves a free lease free and its own lease unchanged; it is granted nothing."""
        worker = Worker(store, "a", may_lead=False)
        reply = worker.poll()
        assert (reply.leads, reply.lease_left, reply.grant) == (False, 0, None)
        Worker(store, "a", cold_lease=HALF).poll()
        reply = worker.poll()
        assert 0 < reply.lease_left <= HALF
        assert reply.grant is None

    def test_the_lease_is_short_while_the_store_is_empty(self, store: Store) -> None:
        """A leader of an empty store has the cold lease; the first publication extends it, and later polls keep it."""
        leader = Worker(store, "a", cold_lease=HALF)
        grant = leader.granted()
        assert store.inspect().lease_left <= HALF
        assert leader.publish(grant, "v1", lease=LONG) is Published.STORED
        assert store.inspect().lease_left > HALF
        assert leader.poll().lease_left == LONG

    def test_a_confirmation_keeps_the_lease(self, store: Store) -> None:
        """`confirm` by the leader extends the lease to the length that it names."""
        leader = Worker(store, "a")
        grant = leader.bring("v1")
        assert store.confirm("a", "v1", grant, lease=2 * LONG)
        assert store.inspect().lease_left > LONG

    def test_a_follower_who_publishes_or_confirms_gets_no_lease(self, store: Store, other: Store) -> None:
        """Publications and confirmations by others neither take a free lease nor extend the leader's."""
        leader = Worker(store, "a")
        grant = leader.bring("v1")
        newer = grant._replace(as_of=grant.as_of + 1)
        assert other.publish("b", envelope(newer, "v2"), fresh=False, lease=2 * LONG) is Published.STORED
        assert other.confirm("b", "v2", newer, lease=2 * LONG)
        assert store.inspect().leader == "a"
        assert store.inspect().lease_left <= LONG
        store.release("a", idle=True)
        assert other.confirm("b", "v2", newer, lease=LONG)
        assert store.inspect().leader == ""

    def test_discard_and_clear_leave_the_lease(self, store: Store) -> None:
        """The leader keeps the lease although the definitions are gone, for two seconds if it does not renew it."""
        leader = Worker(store, "a")
        leader.bring("v1")
        store.discard("a", "v1")
        assert store.inspect().leader == "a"
        assert store.inspect().lease_left <= HURRY
        assert store.renew("a", LONG)
        assert store.inspect().lease_left > HURRY
        store.clear()
        assert store.inspect().leader == "a"
        assert store.inspect().lease_left <= HURRY
        assert leader.poll().lease_left == LONG

    def test_a_shorter_lease_is_not_prolonged_when_the_store_is_emptied(self, store: Store) -> None:
        """A lease that is shorter than two seconds ends as before."""
        leader = Worker(store, "a", lease=HURRY // 2)
        leader.publish(leader.granted(), "v1", lease=HURRY // 2)
        store.discard("a", "v1")
        store.clear()
        assert store.inspect().lease_left <= HURRY // 2

    def test_nothing_is_discarded_but_the_stored_version(self, store: Store) -> None:
        """A late discard of another version neither empties the store nor shortens the lease."""
        Worker(store, "a").bring("v1")
        assert not store.discard("b", "v0")
        assert store.inspect().lease_left > HURRY

    def test_a_reply_names_the_leader_if_the_asker_does_not_know_it(self, store: Store, other: Store) -> None:
        """The reply names no leader, the asker or another worker; it does not repeat what the poll said."""
        watcher = Worker(other, "b", may_lead=False)
        assert watcher.poll().leader is None
        leader = Worker(store, "a")
        assert leader.poll().leader == "a"
        assert watcher.poll().leader == "a"
        watcher.leader = leader.leader = "a"
        assert watcher.poll().leader is None
        assert leader.poll().leader is None
        assert store.release("a", idle=True)
        assert watcher.poll().leader == ""

    def test_an_unused_lease_of_an_empty_store_is_taken(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """If a store is empty and a fetch is due, a lease counts for as long as the asker's own longest one."""
        Worker(store, "gone").granted()
        asker = Worker(other, "b", interval=SHORT, lease=SHORT, cold_lease=SHORT)
        assert not asker.poll().leads
        pass_time(HURRY + 2 * SHORT)
        reply = asker.poll()
        assert reply.leads
        assert reply.grant is not None

    def test_an_unused_lease_is_believed_for_the_longest_of_the_asker(
        self, store: Store, other: Store, pass_time: PassTime
    ) -> None:
        """An asker whose own leases are long waits as long for the holder of another."""
        Worker(store, "gone").granted()
        pass_time(HURRY + 2 * SHORT)
        for lease, cold_lease, interval in ((LONG, SHORT, SHORT), (SHORT, LONG, SHORT), (SHORT, SHORT, LONG)):
            asker = Worker(other, "b", interval=interval, lease=lease, cold_lease=cold_lease)
            assert not asker.poll().leads

    def test_a_fetch_for_which_the_lease_is_renewed_is_under_way(
        self, store: Store, other: Store, pass_time: PassTime
    ) -> None:
        """A slow first fetch, whose holder renews the lease each second, does not count as abandoned."""
        leader, asker = Worker(store, "a"), Worker(other, "b", interval=SHORT, lease=SHORT, cold_lease=SHORT)
        leader.granted()
        pass_time(HURRY + 2 * SHORT)
        assert store.renew("a", LONG)
        assert not asker.poll().leads

    def test_while_a_note_stands_no_lease_is_unused(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """If the vendor refuses all workers, a leader cannot fetch, and keeps the lease of an empty store."""
        leader, asker = Worker(store, "a"), Worker(other, "b", interval=SHORT, lease=SHORT, cold_lease=SHORT)
        assert leader.fail(leader.granted(), Scope.EVERYBODY, status=503, retry_after=LONG)
        pass_time(HURRY + 2 * SHORT)
        assert not asker.poll().leads

    def test_a_doubted_leader_of_an_empty_store_is_followed_at_once(self, store: Store, other: Store) -> None:
        """A worker that saw a leader lead an empty store for too long takes its lease, whatever the store says."""
        Worker(store, "a").granted()
        assert not Worker(other, "b", leader="a").poll().leads
        assert not Worker(other, "b", leader="x", doubts=True).poll().leads
        assert Worker(other, "b", leader="a", doubts=True).poll().leads

    def test_a_leader_is_doubted_in_an_empty_store_alone(self, store: Store, other: Store) -> None:
        """If the store has definitions, their age decides whether the leader is replaced."""
        Worker(store, "a").bring("v1")
        assert not Worker(other, "b", leader="a", doubts=True).poll().leads
