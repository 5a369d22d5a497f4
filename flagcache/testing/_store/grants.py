"""Grants: one fetch at a time, at most one an interval, and an early one only if the last one failed."""

from __future__ import annotations

from flagcache.stores.base import Grant, Order, Store
from flagcache.testing._store.cases import AT_ONCE, LONG, SHORT, Cases, PassTime, Worker, repair

__all__ = ["GrantCases"]

DUE = LONG * 9 // 10
"""After this time (ms) the next grant of an interval of `LONG` is due."""


class GrantCases(Cases):
    """One fetch an interval."""

    def test_the_leader_of_an_empty_store_is_granted_a_fetch(self, store: Store, other: Store) -> None:
        """The first asker alone is granted a fetch; all replies say when."""
        leader = Worker(store, "a")
        grant = leader.granted()
        follower = Worker(other, "b").poll()
        assert follower.grant is None
        assert follower.granted_at == grant.at
        assert grant.as_of >= grant.at > 0
        assert grant.epoch == 0
        assert store.inspect().grant_holder == "a"

    def test_a_grant_is_given_once(self, store: Store) -> None:
        """While its fetch is under way, a leader that knows of the grant gets no other."""
        leader = Worker(store, "a")
        leader.granted()
        assert leader.poll().grant is None

    def test_a_grant_whose_reply_was_lost_is_given_again(self, store: Store) -> None:
        """A leader that names an earlier last grant did not get the latest, and gets the same one again."""
        leader = Worker(store, "a")
        grant = leader.granted()
        leader.last_grant = 0
        assert leader.poll().grant == grant
        leader.last_grant, leader.idle = 0, True
        assert leader.poll().grant == grant

    def test_a_lost_grant_is_not_given_again_once_the_next_is_due(self, store: Store, pass_time: PassTime) -> None:
        """Its definitions would be newer than the lost grant says, and must not rank below others'."""
        leader = Worker(store, "a", interval=SHORT)
        grant = leader.granted()
        leader.last_grant = 0
        pass_time(SHORT)
        given = leader.poll().grant
        assert given is not None
        assert given.at >= grant.at + SHORT * 9 // 10

    def test_a_lost_grant_that_was_overtaken_is_not_given_again(self, store: Store) -> None:
        """A leader that got newer definitions meanwhile waits for the next grant; this one's would be late."""
        leader = Worker(store, "a")
        grant = leader.granted()
        leader.last_grant, leader.held, leader.held_version = 0, Order(0, grant.as_of), "v2"
        assert leader.poll().grant is None
        leader.held = Order(0, grant.as_of - 1)
        assert leader.poll().grant == grant

    def test_a_grant_that_was_answered_is_not_given_again(self, store: Store) -> None:
        """A grant is over once it was published or failed, whatever the leader remembers."""
        leader = Worker(store, "a")
        leader.bring("v1")
        leader.last_grant = 0
        assert leader.poll().grant is None
        leader.interval = AT_ONCE
        failed = leader.granted()
        leader.fail(failed)
        leader.last_grant, leader.interval = 0, LONG
        assert leader.granted().as_of > failed.as_of

    def test_grants_are_an_interval_apart(self, store: Store, pass_time: PassTime) -> None:
        """After an interval, and not before, the leader is granted the next fetch, with a higher `as_of`."""
        leader = Worker(store, "a")
        first = leader.bring("v1")
        pass_time(SHORT)
        assert leader.poll().grant is None
        leader.interval = SHORT
        second = leader.granted()
        assert second.as_of > first.as_of
        assert second.at >= first.at + SHORT * 9 // 10

    def test_each_askers_own_interval_decides(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """If workers with different intervals share a store, the next leader's own interval decides."""
        leader = Worker(store, "a")
        leader.bring("v1")
        pass_time(SHORT)
        store.release("a", idle=True)
        patient, hasty = Worker(other, "b"), Worker(other, "c", interval=SHORT)
        assert patient.poll().grant is None
        other.release("b", idle=True)
        hasty.granted()

    def test_a_grant_orders_above_all_that_is_stored(self, store: Store) -> None:
        """A grant's `as_of` is above the stored one, even if that lies ahead of the clock."""
        meta = repair(store, "v1", age=-LONG)
        assert Worker(store, "a").granted().as_of > meta.as_of

    def test_a_grant_orders_above_all_that_was_stored(self, store: Store) -> None:
        """A grant's `as_of` is above those of definitions that were confirmed, discarded or cleared since."""
        meta = repair(store, "v1", age=-LONG)
        later = Grant(0, meta.as_of + LONG, meta.as_of)
        assert store.confirm("a", "v1", later, lease=LONG)
        store.discard("a", "v1")
        first = Worker(store, "a").granted()
        assert first.as_of > later.as_of
        store.clear()
        assert Worker(store, "a").granted().as_of > first.as_of

    def test_a_grant_orders_above_all_that_its_holder_knows(self, store: Store) -> None:
        """A grant's `as_of` is above the asker's last grant and above what it holds, which the store may have lost."""
        now = store.inspect().clock
        assert Worker(store, "a", last_grant=now + LONG).granted().as_of > now + LONG
        store.clear()
        holder = Worker(store, "a", held=Order(0, store.inspect().clock), held_version="v1")
        assert holder.granted().as_of > (holder.held or Order(0, 0)).as_of

    def test_a_released_lease_brings_no_early_grant(self, store: Store, other: Store) -> None:
        """A worker that takes over from a leader without a fetch under way leads, and waits for the interval."""
        Worker(store, "a").bring("v1")
        store.release("a", idle=True)
        reply = Worker(other, "b").poll()
        assert (reply.leads, reply.grant) == (True, None)

    def test_a_fetch_that_came_back_with_nothing_brings_no_early_grant(self, store: Store, other: Store) -> None:
        """A grant that was neither published nor failed is over once its holder says that it is idle."""
        repair(store, "v1")
        leader = Worker(store, "a")
        leader.granted()
        store.release("a", idle=True)
        heir = Worker(other, "b").poll()
        assert (heir.leads, heir.grant) == (True, None)

    def test_an_idle_poll_ends_the_grant(self, store: Store, other: Store) -> None:
        """A leader may say with a poll that its fetch is over; then no worker needs to repeat the fetch."""
        repair(store, "v1")
        leader = Worker(store, "a")
        leader.granted()
        leader.idle = True
        leader.poll()
        store.release("a", idle=False)
        heir = Worker(other, "b").poll()
        assert (heir.leads, heir.grant) == (True, None)

    def test_a_fetch_left_behind_is_followed_by_another(self, store: Store, other: Store) -> None:
        """If a leader releases the lease during its fetch, another follows at once."""
        repair(store, "v1")
        first = Worker(store, "a").granted()
        store.release("a", idle=False)
        assert Worker(other, "b").granted().as_of > first.as_of

    def test_a_leader_who_died_fetching_is_followed_by_another(
        self, store: Store, other: Store, pass_time: PassTime
    ) -> None:
        """If the lease expires with a grant unanswered, the next leader is granted a fetch at once."""
        first = Worker(store, "a", cold_lease=SHORT).granted()
        pass_time(SHORT)
        assert Worker(other, "b").granted().as_of > first.as_of

    def test_three_grants_an_interval_at_most(self, store: Store) -> None:
        """However many fail, an interval has three grants; then all wait for the next interval."""
        for me in "abc":
            worker = Worker(store, me)
            assert worker.fail(worker.granted())
        last = Worker(store, "d")
        reply = last.poll()
        assert (reply.leads, reply.grant) == (True, None)
        last.interval = AT_ONCE
        last.granted()

    def test_lost_definitions_are_fetched_again_at_once(self, store: Store) -> None:
        """If what a grant brought is gone, a leader that holds nothing is granted one more fetch."""
        leader = Worker(store, "a")
        leader.bring("v1")
        store.discard("a", "v1")
        leader.granted()
        assert leader.poll().grant is None

    def test_lost_definitions_that_the_leader_holds_are_not_fetched(self, store: Store) -> None:
        """A leader that holds what the store lost repairs it, and waits for the interval."""
        leader = Worker(store, "a")
        leader.bring("v1")
        leader.held, leader.held_version = Order(0, leader.last_grant), "v1"
        store.discard("b", "v1")
        reply = leader.poll()
        assert (reply.grant, reply.republish) == (None, True)

    def test_a_store_that_lost_its_grants_is_told_of_them(self, store: Store) -> None:
        """A leader that holds definitions and knows the age of the latest grant waits for that grant's interval."""
        now = store.inspect().clock
        leader = Worker(store, "a", held=Order(0, now), held_version="v1", grant_age=0)
        assert leader.poll().grant is None
        leader.grant_age = DUE - 1
        assert leader.poll().grant is None
        leader.grant_age = DUE
        leader.granted()

    def test_readers_are_granted_nothing(self, store: Store) -> None:
        """A worker that may not lead is granted no fetch, even if one is due."""
        reader = Worker(store, "a", may_lead=False, interval=AT_ONCE)
        assert reader.poll().grant is None
        repair(store, "v1")
        assert reader.poll().grant is None
        assert store.inspect().granted_at == 0
