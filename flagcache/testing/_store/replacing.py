"""Definitions whose key a process lacks: it asks holders to look, and a holder replaces them."""

from __future__ import annotations

from flagcache.stores.base import Grant, Meta, Published, Replacing, Store
from flagcache.testing._store.cases import LONG, SHORT, Cases, PassTime, Worker, envelope, repair

__all__ = ["ReplacingCases"]


def replace(store: Store, meta: Meta, version: str, *, interval: int = LONG) -> Published:
    """Publish what the worker holds, in the place of this version."""
    content = envelope(Grant(meta.epoch, meta.as_of, meta.confirmed_at), meta.version)
    return store.publish("b", content, fresh=False, lease=LONG, replacing=Replacing(version, interval))


class ReplacingCases(Cases):
    """Newcomers never replace definitions, and holders at most once an interval."""

    def test_older_definitions_replace_what_their_publisher_lacks_the_key_of(self, store: Store, other: Store) -> None:
        """The replacement is one step: each poll finds the old ones or the new ones."""
        held = repair(store, "v1", age=LONG)
        repair(store, "v2")
        assert replace(other, held, "v2") is Published.STORED
        assert store.inspect().meta == held
        assert Worker(store, "c").poll().payload == b"payload of v1"

    def test_only_the_named_version_is_replaced(self, store: Store, other: Store) -> None:
        """If another version came meanwhile, or none is stored, nothing is replaced."""
        held = repair(store, "v1", age=LONG)
        assert store.discard("a", "v1")
        assert replace(other, held, "v1") is Published.STALE
        stored = repair(store, "v3")
        assert replace(other, held, "v2") is Published.STALE
        assert store.inspect().meta == stored

    def test_one_an_interval_is_replaced(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """The store counts over all processes; each process's own interval decides."""
        held = repair(store, "v1", age=LONG)
        repair(store, "v2", age=SHORT)
        assert replace(other, held, "v2") is Published.STORED
        repair(store, "v3")
        assert replace(store, held, "v3") is Published.STALE
        pass_time(SHORT)
        assert replace(other, held, "v3") is Published.STALE
        assert replace(other, held, "v3", interval=SHORT) is Published.STORED

    def test_what_people_cleared_does_not_come_back_so(self, store: Store, other: Store) -> None:
        """The epoch orders first, also here."""
        held = repair(store, "v1", age=LONG)
        store.clear()
        stored = repair(store, "v2", epoch=1)
        assert replace(other, held, "v2") is Published.STALE
        assert store.inspect().meta == stored

    def test_the_same_version_may_be_replaced(self, store: Store, other: Store) -> None:
        """The same definitions may come protected with another key; then their payload is written again."""
        held = repair(store, "v1")
        content = envelope(Grant(0, held.as_of, held.confirmed_at), "v1")._replace(payload=b"under another key")
        place = Replacing("v1", 0)
        assert other.publish("b", content, fresh=False, lease=LONG, replacing=place) is Published.STORED
        assert Worker(store, "c").poll().payload == b"under another key"

    def test_a_lacking_key_is_reported_once_an_interval(self, store: Store, other: Store, pass_time: PassTime) -> None:
        """A report counts only for the stored version, and for all processes together."""
        assert not store.report("a", "v1", LONG)
        repair(store, "v1")
        assert not store.report("a", "v0", LONG)
        assert store.report("a", "v1", LONG)
        assert not other.report("b", "v1", LONG)
        pass_time(SHORT)
        assert other.report("b", "v1", SHORT)
        assert store.inspect().meta is not None
