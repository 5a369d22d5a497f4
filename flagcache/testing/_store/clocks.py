"""The clock: lengths of time to the millisecond, and a clock that is stepped back."""

from __future__ import annotations

from flagcache.stores.base import Order, Scope, Store
from flagcache.testing._store.cases import LONG, Cases, PassTime, Worker, repair

__all__ = ["ClockContract"]

DAY = 24 * 3600 * 1000


class ClockContract(Cases):
    """A store whose clock moves only if the test moves it: `pass_time` does, also back."""

    def test_a_lease_ends_on_time(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """A lease lasts to its last millisecond, and no longer."""
        Worker(store, "a", cold_lease=500).poll()
        pass_time(499)
        assert Worker(other, "b").poll().lease_left == 1
        pass_time(1)
        assert Worker(other, "b").poll().leads

    def test_a_grant_is_due_a_tenth_early(self, store: Store, pass_time: PassTime) -> None:
        """Workers poll a little early: nine tenths of the interval count for all of it, and no less does."""
        leader = Worker(store, "a", interval=1000)
        leader.bring("v1")
        pass_time(899)
        assert leader.poll().grant is None
        pass_time(1)
        leader.granted()

    def test_a_fourth_grant_waits_for_the_first_to_be_an_interval_old(self, store: Store, pass_time: PassTime) -> None:
        """Three grants an interval: the fourth comes when the first is a whole interval old."""
        for me in "abc":
            worker = Worker(store, me, interval=1000)
            worker.granted()
            store.release(me, idle=False)
            pass_time(100)
        last = Worker(store, "d", interval=1000)
        pass_time(699)
        assert last.poll().grant is None
        pass_time(1)
        last.granted()

    def test_a_grant_is_due_a_tenth_early_after_three_too(self, store: Store, pass_time: PassTime) -> None:
        """Nine tenths after the latest grant, even if the first of three is not yet an interval old."""
        for me in "ab":
            Worker(store, me, interval=1000).granted()
            store.release(me, idle=False)
            pass_time(10)
        last = Worker(store, "c", interval=1000)
        last.bring("v1")
        pass_time(899)
        assert last.poll().grant is None
        pass_time(1)
        last.granted()

    def test_a_challenge_comes_on_time(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """A leader has the whole challenge time since it was last heard of."""
        Worker(store, "a").bring("v1")
        second = Worker(other, "b", interval=1000, challenge=5000)
        pass_time(4999)
        assert not second.poll().leads
        pass_time(1)
        second.granted()

    def test_one_turn_a_challenge_time_to_the_millisecond(
        self, store: Store, other: Store, pass_time: PassTime
    ) -> None:
        """The second challenger has its turn a challenge time after the first took its own."""
        Worker(store, "a").bring("v1")
        pass_time(5000)
        Worker(other, "b", interval=1000, challenge=5000).granted()
        third = Worker(store, "c", interval=1000, challenge=5000)
        pass_time(4999)
        assert not third.poll().leads
        pass_time(1)
        third.granted()

    def test_a_silent_leader_waits_one_interval_to_the_millisecond(self, store: Store, pass_time: PassTime) -> None:
        """A lone silent leader is granted its fetch when a second interval, less a tenth, is over."""
        leader = Worker(store, "a", interval=1000, challenge=1000)
        leader.bring("v1")
        pass_time(1899)
        assert leader.poll().grant is None
        pass_time(1)
        leader.granted()

    def test_a_clock_stepped_back_frees_the_lease(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """A lease that would end further ahead than it is long is over: no worker waits a day for it."""
        Worker(store, "a").poll()
        pass_time(-DAY)
        assert Worker(other, "b").poll().leads

    def test_a_clock_stepped_back_stops_no_fetch(self, store: Store, pass_time: PassTime) -> None:
        """A grant from ahead of the clock counts as long ago, and the next orders above it."""
        leader = Worker(store, "a")
        first = leader.bring("v1")
        pass_time(-DAY)
        second = leader.granted()
        assert second.at < first.at
        assert second.as_of > first.as_of
        assert leader.publish(second, "v2").value == "stored"

    def test_a_clock_stepped_back_ends_a_note(self, store: Store, pass_time: PassTime) -> None:
        """A back-off that would end further ahead than it is long is over."""
        leader = Worker(store, "a")
        leader.fail(leader.granted(), Scope.EVERYBODY, status=429, retry_after=LONG)
        pass_time(-DAY)
        reply = leader.poll()
        assert reply.backoff_left == 0
        assert reply.grant is not None

    def test_a_clock_stepped_back_stops_no_repair(self, store: Store, pass_time: PassTime) -> None:
        """If a holder was asked at a time ahead of the clock, others are still asked."""
        meta = repair(store, "v1")
        store.discard("a", "v1")
        assert Worker(store, "a", held=meta.order, held_version="v1").poll().republish
        pass_time(-DAY)
        assert Worker(store, "b", held=meta.order, held_version="v1").poll().republish

    def test_a_clock_stepped_back_stops_no_challenge(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """Definitions confirmed ahead of the clock do not protect a leader that has been silent since."""
        Worker(store, "a").bring("v1")
        pass_time(-DAY)
        Worker(store, "a").poll()
        pass_time(LONG - 1)
        assert store.renew("a", LONG)
        pass_time(1)
        Worker(other, "b").granted()

    def test_what_is_stored_ahead_of_the_clock_gives_way(self, store: Store, pass_time: PassTime) -> None:
        """After a step back, definitions are ordered by their age on their holder's clock."""
        repair(store, "v1")
        pass_time(-DAY)
        reply = Worker(store, "a", held=Order(0, 0), held_age=LONG, held_version="v0").poll()
        assert reply.payload == b"payload of v1"
