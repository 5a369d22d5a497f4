"""Epochs: definitions that people cleared don't return, and an epoch that they raised stays raised."""

from __future__ import annotations

from flagcache.stores.base import Grant, Order, Published, Scope, Store
from flagcache.testing._store.cases import LONG, Cases, Worker, envelope, repair

__all__ = ["EpochCases"]


class EpochCases(Cases):
    """The epoch orders first."""

    def test_clear_forgets_the_definitions_and_raises_the_epoch(self, store: Store, other: Store) -> None:
        """After `clear` nothing is stored, and each further `clear` returns a higher epoch."""
        repair(store, "v1")
        assert other.clear() == 1
        seen = store.inspect()
        assert (seen.epoch, seen.meta, seen.payload_size) == (1, None, 0)
        assert Worker(store, "a").poll().meta is None
        assert store.clear() == 2

    def test_clear_forgets_grants_and_notes(self, store: Store) -> None:
        """After `clear` a fetch may be granted at once, in the new epoch and above all before."""
        leader = Worker(store, "a")
        first = leader.bring("v1")
        leader.fail(first, Scope.EVERYBODY, status=429, retry_after=LONG)
        store.clear()
        assert store.inspect().backoff_status == 0
        second = leader.granted()
        assert second.epoch == 1
        assert second.as_of > first.as_of

    def test_what_was_cleared_is_not_asked_back(self, store: Store, other: Store) -> None:
        """A worker that holds definitions of an older epoch is not asked to publish them."""
        meta = repair(store, "v1")
        store.clear()
        reply = Worker(other, "b", held=meta.order, held_version="v1").poll()
        assert (reply.republish, reply.unchanged, reply.meta) == (False, False, None)

    def test_what_was_cleared_does_not_come_back(self, store: Store) -> None:
        """A repair of an older epoch is refused, although nothing is stored and it claims to be new."""
        now = store.inspect().clock
        store.clear()
        content = envelope(Grant(0, now + LONG, now), "v1")
        assert store.publish("b", content, fresh=False, lease=LONG) is Published.STALE
        assert store.inspect().meta is None

    def test_a_grant_of_before_brings_nothing(self, store: Store) -> None:
        """A fetch that was under way when people cleared the store is refused."""
        leader = Worker(store, "a")
        grant = leader.granted()
        store.clear()
        assert leader.publish(grant, "v1") is Published.STALE
        assert not leader.fail(grant)
        assert leader.publish(leader.granted(), "v2") is Published.STORED

    def test_what_is_of_a_newer_epoch_wins(self, store: Store, other: Store) -> None:
        """A higher epoch replaces a lower one, whatever the `as_of`, and raises the store's own."""
        repair(store, "v1")
        meta = repair(other, "v2", age=LONG, epoch=3)
        assert store.inspect().meta == meta
        assert store.inspect().epoch == 3
        reply = Worker(store, "a", held=Order(0, meta.as_of + 1), held_version="v1").poll()
        assert reply.payload == b"payload of v2"

    def test_a_store_that_lost_its_epoch_is_told_of_it(self, store: Store) -> None:
        """A holder of a higher epoch raises the store to it, and brings back what it holds."""
        now = store.inspect().clock
        holder = Worker(store, "a", may_lead=False, held=Order(3, now), held_version="v1")
        assert holder.poll().republish
        assert store.inspect().epoch == 3
        repair(store, "v1", epoch=3)
        assert store.clear() == 4

    def test_what_is_stored_is_lifted_with_the_store(self, store: Store, other: Store) -> None:
        """Definitions fetched since the epoch was lost are still good: they get the holder's epoch."""
        meta = repair(store, "v2")
        holder = Worker(other, "b", held=Order(3, meta.as_of - 1), held_version="v1")
        reply = holder.poll()
        assert reply.payload == b"payload of v2"
        assert reply.meta is not None
        assert reply.meta.order == Order(3, meta.as_of)

    def test_what_was_cleared_is_not_lifted_with_the_store(self, store: Store, other: Store) -> None:
        """If a store falls back to before a `clear`, its old definitions don't count as newer than they are."""
        meta = repair(store, "v1", age=1000)
        holder = Worker(other, "b", held=Order(3, meta.as_of + 500), held_version="v2")
        assert holder.poll().republish
        behind = Worker(store, "a", held=Order(0, meta.as_of + 100), held_version="v1.1").poll()
        assert (behind.payload, behind.meta) == (None, None)

    def test_a_fetch_is_of_the_epoch_of_its_store(self, store: Store, other: Store) -> None:
        """What a grant brings is stored although a holder raised the epoch during the fetch."""
        leader = Worker(store, "a")
        grant = leader.granted()
        Worker(other, "b", held=Order(2, grant.as_of - 1), held_version="v0").poll()
        assert leader.publish(grant, "v1") is Published.STORED
        meta = store.inspect().meta
        assert meta is not None
        assert meta.order == Order(2, grant.as_of)
