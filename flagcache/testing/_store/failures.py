"""Failed fetches: some concern one worker, others are a note for all."""

from __future__ import annotations

import pytest

from flagcache.stores.base import Grant, Published, Scope, Store
from flagcache.testing._store.cases import AT_ONCE, LONG, SHORT, Cases, PassTime, Worker, repair

__all__ = ["FailureCases"]


def fail_for_all(worker: Worker, *, retry_after: int = LONG) -> Grant:
    """Let a worker fetch, and the vendor refuse all workers for a while."""
    grant = worker.granted()
    assert worker.fail(grant, Scope.EVERYBODY, status=429, retry_after=retry_after)
    return grant


class FailureCases(Cases):
    """The effects of a failed fetch."""

    def test_a_worker_that_fails_makes_room(self, store: Store, other: Store) -> None:
        """A failure of its own costs a worker the lease, and the next leader is granted a fetch at once."""
        repair(store, "v1")
        worker = Worker(store, "a")
        grant = worker.granted()
        assert worker.fail(grant)
        assert store.inspect().leader == ""
        assert Worker(other, "b").granted().as_of > grant.as_of

    def test_a_lone_worker_may_try_again(self, store: Store) -> None:
        """When its own back-off is over a lone worker leads again, and is granted at most three fetches an interval."""
        worker = Worker(store, "a")
        for _ in range(3):
            assert worker.fail(worker.granted())
        reply = worker.poll()
        assert (reply.leads, reply.grant) == (True, None)
        worker.interval = AT_ONCE
        worker.granted()

    def test_failures_in_a_row_space_the_grants_out(self, store: Store, pass_time: PassTime) -> None:
        """After three failures two grants are an interval apart, and this doubles up to the asker's limit."""
        worker = Worker(store, "a", interval=SHORT, backoff=LONG)
        for _ in range(3):
            assert worker.fail(worker.granted())
        pass_time(SHORT)
        latest = worker.granted()
        assert worker.fail(latest)
        pass_time(SHORT)
        reply = worker.poll()
        if reply.grant is None:
            pass_time(SHORT)
        else:  # only if this test was so slow that two intervals are over
            assert reply.clock - latest.at >= 2 * SHORT * 9 // 10
        worker.publish(reply.grant or worker.granted(), "v1")
        pass_time(SHORT)
        worker.granted()

    def test_a_failure_for_all_is_seen_by_all(self, store: Store, other: Store) -> None:
        """All workers get the status and how long to wait."""
        leader = Worker(store, "a")
        fail_for_all(leader)
        for reply in (leader.poll(), Worker(other, "b").poll(), Worker(other, "c", may_lead=False).poll()):
            assert reply.backoff_status == 429
            assert 0 < reply.backoff_left <= LONG

    def test_while_the_note_stands_nobody_fetches(self, store: Store, other: Store) -> None:
        """A note leaves the lease as it is, and no leader is granted a fetch, even if one is due."""
        leader = Worker(store, "a", interval=AT_ONCE)
        fail_for_all(leader)
        reply = leader.poll()
        assert (reply.leads, reply.grant) == (True, None)
        store.release("a", idle=True)
        reply = Worker(other, "b", interval=AT_ONCE).poll()
        assert (reply.leads, reply.grant) == (True, None)

    def test_a_note_ends_by_time(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """When the note's time is over, a fetch is granted."""
        leader = Worker(store, "a", interval=AT_ONCE)
        fail_for_all(leader, retry_after=SHORT)
        pass_time(SHORT)
        reply = Worker(other, "b").poll()
        assert (reply.backoff_status, reply.backoff_left) == (429, 0)
        leader.granted()

    @pytest.mark.parametrize("verb", ["publish", "confirm"])
    def test_a_note_ends_with_a_success(self, store: Store, verb: str) -> None:
        """A fetch that brought or confirmed definitions shows that the vendor answers again."""
        repair(store, "v1", age=LONG)
        leader = Worker(store, "a")
        grant = fail_for_all(leader)
        if verb == "publish":
            assert leader.publish(grant, "v2") is Published.STORED
        else:
            assert store.confirm("a", "v1", grant, lease=LONG)
        assert store.inspect().backoff_status == 0

    def test_a_note_does_not_end_with_an_older_success(self, store: Store, other: Store) -> None:
        """A fetch from before the failure says nothing about the vendor after it."""
        early, late = Worker(store, "a"), Worker(other, "b")
        first = early.granted()
        store.release("a", idle=False)
        fail_for_all(late)
        assert early.publish(first, "v1") is Published.STORED
        assert store.confirm("a", "v1", first, lease=LONG)
        assert store.inspect().backoff_status == 429

    def test_a_note_does_not_end_with_a_repair(self, store: Store) -> None:
        """What comes from a process's memory says nothing about the vendor."""
        fail_for_all(Worker(store, "a"))
        repair(store, "v1")
        assert store.inspect().backoff_status == 429

    @pytest.mark.parametrize("scope", Scope)
    def test_a_late_failure_counts_for_nothing(self, store: Store, other: Store, scope: Scope) -> None:
        """The failure of an older grant's fetch changes neither the note, nor the lease, nor the later grant."""
        early, late = Worker(store, "a"), Worker(other, "b")
        first = early.granted()
        store.release("a", idle=False)
        second = late.granted()
        assert not early.fail(first, scope, status=500, retry_after=LONG)
        late.last_grant = 0
        reply = late.poll()
        assert (reply.leads, reply.grant, reply.backoff_status) == (True, second, 0)

    def test_a_failure_costs_nobody_else_the_lease(self, store: Store, other: Store) -> None:
        """If a worker lost the lease while it fetched, and fails, the present holder keeps the lease."""
        for me in "xy":
            worker = Worker(store, me)
            worker.fail(worker.granted())
        worker = Worker(store, "a")
        grant = worker.granted()
        store.release("a", idle=False)
        assert Worker(other, "b").poll().leads  # and is granted nothing: three were given
        assert worker.fail(grant)
        assert store.inspect().leader == "b"

    @pytest.mark.parametrize("scope", Scope)
    def test_only_its_holder_fails_a_grant(self, store: Store, other: Store, scope: Scope) -> None:
        """Another worker cannot say that a fetch failed."""
        holder = Worker(store, "a")
        grant = holder.granted()
        assert not Worker(other, "b").fail(grant, scope, status=500, retry_after=LONG)
        holder.last_grant = 0
        assert holder.poll().grant == grant

    def test_a_failure_leaves_what_is_stored(self, store: Store) -> None:
        """Definitions outlive failed fetches."""
        meta = repair(store, "v1")
        fail_for_all(Worker(store, "a"))
        assert store.inspect().meta == meta
