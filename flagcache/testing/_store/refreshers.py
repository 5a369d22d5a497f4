"""Refreshers: a process that exists to fetch goes before the workers, and causes no second fetch."""

from __future__ import annotations

from flagcache.stores.base import REFRESHER, Published, Scope, Store
from flagcache.testing._store.cases import AT_ONCE, LONG, SHORT, Cases, PassTime, Worker

__all__ = ["RefresherCases"]

ME = f"{REFRESHER}r"


class RefresherCases(Cases):
    """A refresher leads if there is one."""

    def test_a_refresher_takes_the_lease_of_a_worker(self, store: Store, other: Store) -> None:
        """The refresher's first poll makes it the leader; at its next poll or renewal the worker follows."""
        worker = Worker(store, "a")
        worker.bring("v1")
        reply = Worker(other, ME).poll()
        assert (reply.leads, reply.grant) == (True, None)
        assert store.inspect().leader == ME
        assert not store.renew("a", LONG)
        assert not store.release("a", idle=True)
        assert not worker.poll().leads
        assert store.inspect().leader == ME

    def test_who_only_looks_takes_nothing(self, store: Store, other: Store) -> None:
        """A refresher that may not lead at this moment leaves the worker its lease."""
        Worker(store, "a").bring("v1")
        assert not Worker(other, ME, may_lead=False).poll().leads
        assert store.inspect().leader == "a"

    def test_a_second_refresher_stands_by(self, store: Store, other: Store) -> None:
        """Refreshers do not take the lease from each other; a free one goes to the first asker."""
        Worker(store, ME).bring("v1")
        second = Worker(other, f"{REFRESHER}s")
        assert not second.poll().leads
        assert store.release(ME, idle=True)
        assert second.poll().leads

    def test_without_a_refresher_workers_lead(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """When the lease of a dead refresher expires, a worker takes over."""
        refresher = Worker(store, ME, lease=SHORT)
        grant = refresher.granted()
        assert refresher.publish(grant, "v1", lease=SHORT) is Published.STORED
        pass_time(SHORT)
        assert Worker(other, "a").poll().leads

    def test_no_worker_takes_the_turn_of_a_refresher(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """A refresher may fetch less often than a worker would, so while its lease lasts no fetch is overdue."""
        Worker(store, ME, reports=True).bring("v1")
        pass_time(3000)
        assert not Worker(other, "a", interval=AT_ONCE, reports=True).poll().leads

    def test_the_fetch_of_a_displaced_worker_is_not_made_again(self, store: Store, other: Store) -> None:
        """During that fetch the refresher leads, and gets no early grant; what the worker brings is stored."""
        worker = Worker(store, "a")
        worker.bring("v1")
        worker.interval = AT_ONCE
        grant = worker.granted()
        refresher = Worker(other, ME)
        reply = refresher.poll()
        assert (reply.leads, reply.grant) == (True, None)
        assert worker.publish(grant, "v2") is Published.STORED
        refresher.interval = AT_ONCE
        assert refresher.granted().as_of > grant.as_of

    def test_a_displaced_worker_that_never_comes_back_holds_nothing_up(self, store: Store, other: Store) -> None:
        """The refresher is granted the next fetch when it is due; after its publication the worker's is late."""
        worker = Worker(store, "a")
        worker.bring("v1")
        worker.interval = AT_ONCE
        grant = worker.granted()
        refresher = Worker(other, ME, interval=AT_ONCE, reports=True)
        refresher.bring("v3")
        assert worker.publish(grant, "v2") is Published.STALE

    def test_a_refresher_follows_the_failed_fetch_of_a_worker(self, store: Store, other: Store) -> None:
        """If a displaced worker reports its failure, the refresher keeps the lease and makes the next try."""
        worker = Worker(store, "a")
        worker.bring("v1")
        worker.interval = AT_ONCE
        grant = worker.granted()
        refresher = Worker(other, ME)
        refresher.poll()
        assert worker.fail(grant, Scope.MINE)
        assert store.inspect().leader == ME
        refresher.granted()

    def test_the_first_fetch_is_let_to_its_end(self, store: Store, other: Store) -> None:
        """All processes wait for a worker's fetch into an empty store, so the worker leads until it ends."""
        worker, refresher = Worker(store, "a"), Worker(other, ME)
        grant = worker.granted()
        assert not refresher.poll().leads
        assert worker.publish(grant, "v1") is Published.STORED
        assert refresher.poll().leads

    def test_a_first_fetch_that_died_is_followed(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """On an empty store a refresher follows at once when the lease of the worker that fetched has ended."""
        Worker(store, "a", cold_lease=SHORT).granted()
        pass_time(SHORT)
        Worker(other, ME).granted()

    def test_a_silent_refresher_is_challenged(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """A silent refresher is challenged as any leader: a worker has a turn, and then the refresher leads again."""
        refresher = Worker(store, ME)
        refresher.bring("v1")
        pass_time(SHORT)
        worker = Worker(other, "a", interval=SHORT, challenge=SHORT)
        worker.publish(worker.granted(), "v2")
        assert refresher.poll().leads
