"""The challenge: a leader that publishes and confirms nothing loses its turn, and the fleet always has a leader."""

from __future__ import annotations

from flagcache.stores.base import Store
from flagcache.testing._store.cases import AT_ONCE, LONG, SHORT, Cases, PassTime, Worker, repair

__all__ = ["ChallengeCases"]

CHALLENGE = 100
"""A challenge time (ms) that a test lets pass."""


class ChallengeCases(Cases):
    """A silent leader is replaced."""

    def test_a_silent_leader_loses_its_turn(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """After the challenge time without a confirmation the next grant that is due goes to another."""
        leader = Worker(store, "a")
        leader.bring("v1")
        pass_time(SHORT)
        Worker(other, "b", interval=SHORT, challenge=SHORT).granted()
        assert not leader.poll().leads

    def test_a_leader_is_not_challenged_early(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """A leader keeps its turn before the challenge time is over, and while no grant is due."""
        leader = Worker(store, "a")
        leader.bring("v1")
        pass_time(SHORT)
        assert not Worker(other, "b", interval=SHORT, challenge=LONG).poll().leads
        assert not Worker(other, "b", interval=LONG, challenge=SHORT).poll().leads
        assert leader.poll().leads

    def test_who_had_the_last_turn_does_not_challenge(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """The turn of a silent leader goes to a worker that did not get the latest grant."""
        last = Worker(store, "a")
        last.bring("v1")
        store.release("a", idle=True)
        assert Worker(other, "b").poll().leads
        pass_time(SHORT)
        last.interval = last.challenge = SHORT
        assert not last.poll().leads
        assert Worker(other, "c", interval=SHORT, challenge=SHORT).poll().leads

    def test_a_leader_of_an_empty_store_is_not_challenged(
        self, store: Store, other: Store, pass_time: PassTime
    ) -> None:
        """While nothing is stored the cold lease alone decides."""
        Worker(store, "a").granted()
        pass_time(SHORT)
        assert not Worker(other, "b", interval=SHORT, challenge=SHORT).poll().leads

    def test_one_turn_a_challenge_time(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """A worker that took a turn has the challenge time for it; if it is silent too, another follows."""
        Worker(store, "a").bring("v1")
        pass_time(CHALLENGE)
        second = Worker(other, "b", interval=AT_ONCE, challenge=CHALLENGE)
        turn = second.granted()
        third = Worker(store, "c", interval=AT_ONCE, challenge=CHALLENGE)
        early = third.poll()
        assert not early.leads or early.clock - turn.at >= CHALLENGE
        pass_time(CHALLENGE)
        assert third.poll().leads

    def test_a_silent_leader_leaves_the_others_one_interval(
        self, store: Store, other: Store, pass_time: PassTime
    ) -> None:
        """A leader that would be challenged gets its due grant an interval late, so that another can come first."""
        leader = Worker(store, "a", challenge=SHORT)
        grant = leader.bring("v1")
        pass_time(CHALLENGE)
        leader.interval = CHALLENGE
        reply = leader.poll()
        assert reply.grant is None or reply.clock - grant.at >= SHORT + CHALLENGE * 9 // 10
        if reply.grant is None:  # else this test was so slow that the interval for the others is over
            Worker(other, "b", interval=AT_ONCE, challenge=SHORT).granted()

    def test_a_silent_leader_who_polls_seldom_leaves_it_too(self, store: Store, pass_time: PassTime) -> None:
        """The interval for the others begins with the silence, however long ago the leader's latest grant was."""
        leader = Worker(store, "a", challenge=CHALLENGE)
        grant = leader.bring("v1")
        pass_time(CHALLENGE)
        leader.interval = CHALLENGE // 2
        reply = leader.poll()
        assert reply.grant is None or reply.clock - grant.at >= CHALLENGE + leader.interval * 9 // 10

    def test_a_lone_silent_leader_goes_on(self, store: Store, pass_time: PassTime) -> None:
        """If no worker takes the turn within an interval, the leader keeps the lease and is granted the fetch."""
        leader = Worker(store, "a", challenge=SHORT)
        leader.bring("v1")
        pass_time(2 * SHORT)
        leader.interval = SHORT
        leader.granted()

    def test_a_lone_silent_leader_is_left_alone_while_it_fetches(
        self, store: Store, other: Store, pass_time: PassTime
    ) -> None:
        """After its late grant a silent leader has a challenge time to publish or confirm something."""
        leader = Worker(store, "a", challenge=SHORT)
        leader.bring("v1")
        pass_time(CHALLENGE)
        leader.interval = AT_ONCE
        grant = leader.granted()
        reply = Worker(other, "b", interval=AT_ONCE, challenge=CHALLENGE).poll()
        assert not reply.leads or reply.clock - grant.at >= CHALLENGE

    def test_a_confirmation_ends_the_silence(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """A leader that has just confirmed is not challenged."""
        leader = Worker(store, "a")
        leader.bring("v1")
        pass_time(CHALLENGE)
        leader.interval = AT_ONCE
        grant = leader.granted()
        assert store.confirm("a", "v1", grant, lease=LONG)
        reply = Worker(other, "b", interval=AT_ONCE, challenge=CHALLENGE).poll()
        assert not reply.leads or reply.clock - grant.at >= CHALLENGE

    def test_who_took_over_old_definitions_has_its_time(self, store: Store, other: Store) -> None:
        """A new leader is not challenged for the silence before it led."""
        repair(store, "v1", age=2 * LONG)
        Worker(store, "a").poll()
        assert not Worker(other, "b", interval=AT_ONCE).poll().leads
