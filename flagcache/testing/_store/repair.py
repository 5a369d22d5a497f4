"""Repair: a process that holds what a store lost brings it back."""

from __future__ import annotations

from flagcache.stores.base import Envelope, Meta, Order, Published, Store
from flagcache.testing._store.cases import LONG, Cases, PassTime, Worker, repair

__all__ = ["RepairCases"]

ASKED_EVERY = 1000
"""Milliseconds between two workers that are asked for the same."""


def holder_of(store: Store, me: str, version: str, *, age: int = 0) -> Worker:
    """Return a worker that holds what was granted `age` milliseconds ago, by the store's clock and by its own."""
    return Worker(store, me, held=Order(0, store.inspect().clock - age), held_age=age, held_version=version)


class RepairCases(Cases):
    """A process that holds newer definitions than the store brings them back."""

    def test_an_empty_store_gets_back_what_it_lost(self, store: Store, other: Store) -> None:
        """A holder is asked to publish, with its own age; then the store holds what it holds."""
        holder = holder_of(store, "a", "v1", age=LONG)
        assert holder.poll().republish
        assert holder.held is not None
        as_of = holder.held.as_of
        meta = Meta("v1", 0, as_of, changed_at=as_of - 2, confirmed_at=as_of - 1)
        assert store.publish("a", Envelope(meta, b"kept"), fresh=False, lease=LONG) is Published.STORED
        assert holder.poll().unchanged
        reply = Worker(other, "b").poll()
        assert (reply.meta, reply.payload) == (meta, b"kept")

    def test_a_store_thrown_back_gets_back_what_it_lost(self, store: Store, other: Store) -> None:
        """A holder of definitions newer than the stored ones is asked to publish them, and they replace those."""
        repair(store, "v1", age=LONG)
        holder = holder_of(other, "b", "v2", age=LONG // 2)
        assert holder.poll().republish
        assert repair(other, "v2", age=LONG // 2).version == "v2"
        assert Worker(store, "a").poll().payload == b"payload of v2"

    def test_whoever_may_not_lead_repairs_too(self, store: Store) -> None:
        """Readers, who never fetch, are asked as well: they may be the only ones left."""
        reader = holder_of(store, "a", "v1")
        reader.may_lead = False
        assert reader.poll().republish

    def test_who_holds_nothing_is_not_asked(self, store: Store) -> None:
        """A worker without definitions can't repair, so it isn't asked."""
        assert not Worker(store, "a").poll().republish

    def test_one_worker_a_second_is_asked(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """Not all holders repair the store at once: the next is asked a second after the last one."""
        first = holder_of(store, "a", "v1").poll()
        second = holder_of(other, "b", "v1").poll()
        assert first.republish
        assert not second.republish or second.clock - first.clock >= ASKED_EVERY
        pass_time(ASKED_EVERY)
        assert holder_of(other, "c", "v1").poll().republish

    def test_what_another_store_granted_is_ordered_by_its_age(self, store: Store, other: Store) -> None:
        """An `as_of` of 0 is not this store's; the age of the fetch's grant decides which is newer."""
        repair(store, "v1", age=LONG)
        newer = Worker(other, "b", held=Order(0, 0), held_age=LONG // 2, held_version="v2").poll()
        assert (newer.republish, newer.payload) == (True, None)
        older = Worker(other, "b", held=Order(0, 0), held_age=2 * LONG, held_version="v0").poll()
        assert (older.republish, older.payload) == (False, b"payload of v1")

    def test_what_is_ahead_of_the_clock_is_ordered_by_its_age(self, store: Store, other: Store) -> None:
        """After the store's clock is stepped back an earlier `as_of` would always win, so the age decides."""
        meta = repair(store, "v1", age=LONG)
        ahead = Order(0, meta.as_of + 2 * LONG)
        newer = Worker(other, "b", held=ahead, held_age=LONG // 2, held_version="v2").poll()
        assert (newer.republish, newer.payload) == (True, None)
        older = Worker(other, "b", held=ahead, held_age=2 * LONG, held_version="v0").poll()
        assert (older.republish, older.payload) == (False, b"payload of v1")

    def test_what_is_ahead_of_the_clock_may_be_what_is_stored(self, store: Store, other: Store) -> None:
        """After the clock is stepped back, an asker that holds exactly what is stored still gets "unchanged"."""
        meta = repair(store, "v1", age=-LONG)
        reply = Worker(other, "b", held=meta.order, held_version="v1").poll()
        assert (reply.unchanged, reply.republish) == (True, False)

    def test_a_repair_moves_no_ages(self, store: Store) -> None:
        """Definitions that are published again keep the times of their confirmation and of their change."""
        meta = repair(store, "v1", age=LONG)._replace(changed_at=5, confirmed_at=6)
        store.discard("a", "v1")
        assert store.publish("a", Envelope(meta, b"kept"), fresh=False, lease=LONG) is Published.STORED
        assert store.inspect().meta == meta
