"""Damage: invalid content counts as absent, and the next publication repairs it."""

from __future__ import annotations

from typing import Protocol

import pytest

from flagcache.stores.base import Published, Store
from flagcache.testing._store.cases import AT_ONCE, LONG, Cases, Worker, repair

__all__ = ["Damage", "DamageContract"]

NOT_A_NUMBER = ["", "x", "nan", "inf", "-inf", "-1", "1.5", "1e400", str(2**53), str(2**64), "0x1p70"]
"""Values that may stand in the place of milliseconds. From 2^53 on not all readers see the same number."""

TEXTS = ["version", "etag", "writer", "project"]
UNSOUND = ["\n", "a\nb", "\x1b[31m", "\x7f", "x" * 1025, "x" * 1_000_000]
"""Texts that no worker writes: with a line feed, an escape or another control character, or too long."""

NUMBERS = ["as_of", "changed_at", "confirmed_at"]


class Damage(Protocol):
    """Damages what a store holds of a namespace, without the store's verbs."""

    def payload(self, namespace: str, payload: bytes | None) -> None:
        """Put other bytes in the payload's place and touch nothing else; None: remove it."""
        ...

    def number(self, namespace: str, field: str, value: str) -> None:
        """Put this text in the place of a number of the metadata, named as in `Meta`, if the store can hold that."""
        ...

    def text(self, namespace: str, field: str, value: str) -> None:
        """Put this in the place of a text, named as in `Meta`, or of `holder`, which was granted a fetch."""
        ...

    def everything(self, namespace: str) -> None:
        """Put something of another type, or nothing, in the place of all that is stored."""
        ...


class DamageContract(Cases):
    """A store whose content others can damage."""

    @pytest.fixture
    def damage(self) -> Damage:
        """Return what damages the store."""
        raise NotImplementedError("the contract needs a fixture `damage`")

    @pytest.mark.parametrize("payload", [None, b"", b"payload", b"payload of v1 and more"])
    def test_a_payload_of_another_length_counts_as_absent(
        self, store: Store, other: Store, damage: Damage, namespace: str, payload: bytes | None
    ) -> None:
        """A missing, empty, truncated or too long payload: nothing is stored, and the next publication is accepted."""
        leader = Worker(store, "a", interval=AT_ONCE)
        leader.bring("v1")
        damage.payload(namespace, payload)
        self.assert_absent_and_mended(leader, other)

    @pytest.mark.parametrize("value", NOT_A_NUMBER)
    @pytest.mark.parametrize("field", NUMBERS)
    def test_metadata_that_are_no_numbers_count_as_absent(
        self, store: Store, other: Store, damage: Damage, namespace: str, field: str, value: str
    ) -> None:
        """If a number is not finite, negative, not whole or too large, nothing is stored until the next publication."""
        leader = Worker(store, "a", interval=AT_ONCE)
        leader.bring("v1")
        damage.number(namespace, field, value)
        self.assert_absent_and_mended(leader, other)

    @pytest.mark.parametrize("value", UNSOUND)
    @pytest.mark.parametrize("field", TEXTS)
    def test_texts_that_no_worker_writes_count_as_absent(
        self, store: Store, other: Store, damage: Damage, namespace: str, field: str, value: str
    ) -> None:
        """A text that would break a log line, or is too long, counts as no definitions until the next publication."""
        leader = Worker(store, "a", interval=AT_ONCE)
        leader.bring("v1")
        damage.text(namespace, field, value)
        self.assert_absent_and_mended(leader, other)

    @pytest.mark.parametrize("value", ["", "v 1", "v/1", "vé", "x" * 65])
    def test_what_cannot_be_named_is_not_stored(
        self, store: Store, other: Store, damage: Damage, namespace: str, value: str
    ) -> None:
        """A version has up to 64 letters, digits, dots and dashes, as a digest; with any other, nothing is stored."""
        leader = Worker(store, "a", interval=AT_ONCE)
        leader.bring("v1")
        damage.text(namespace, "version", value)
        self.assert_absent_and_mended(leader, other)

    @pytest.mark.parametrize("value", UNSOUND)
    def test_a_holder_that_no_worker_can_be_is_nobody(
        self, store: Store, other: Store, damage: Damage, namespace: str, value: str
    ) -> None:
        """People see the identity in the record of grants. An identity that no worker can have counts as none."""
        Worker(store, "a").bring("v1")
        damage.text(namespace, "holder", value)
        assert other.inspect().grant_holder == ""
        assert Worker(other, "b").poll().payload == b"payload of v1"

    @pytest.mark.parametrize("size", [101, 1_000_000])
    def test_a_stamp_that_is_too_long_counts_as_absent(
        self, store: Store, other: Store, damage: Damage, namespace: str, size: int
    ) -> None:
        """A stamp has at most 100 bytes; the definitions of a longer one are returned without a stamp."""
        Worker(store, "a").bring("v1")
        for length, kept in ((100, "x" * 100), (size, "")):
            damage.text(namespace, "stamp", "x" * length)
            meta = Worker(other, "b").poll().meta
            assert meta is not None
            assert (meta.version, meta.stamp) == ("v1", kept)

    def test_an_order_that_is_no_time_counts_as_absent(
        self, store: Store, other: Store, damage: Damage, namespace: str
    ) -> None:
        """With an `as_of` whose successor would be no number, nothing is stored: nothing could be newer."""
        leader = Worker(store, "a", interval=AT_ONCE)
        leader.bring("v1")
        damage.number(namespace, "as_of", str(2**53 - 1))
        self.assert_absent_and_mended(leader, other)

    @pytest.mark.parametrize("epoch", [2**52 + 1, 2**53 - 1])
    def test_an_epoch_that_was_never_counted_is_cleared_above_those_that_were(
        self, store: Store, other: Store, damage: Damage, namespace: str, epoch: int
    ) -> None:
        """The count is lost, but the next epoch is higher than that of all definitions that any worker held."""
        for _ in range(3):
            store.clear()
        meta = repair(store, "v1", epoch=3)
        damage.number(namespace, "epoch", str(epoch))
        raised = other.clear()
        assert 3 < raised <= other.inspect().clock
        reply = Worker(other, "b", held=meta.order, held_version="v1").poll()
        assert (reply.republish, reply.meta) == (False, None)
        assert store.inspect().epoch == raised

    def test_a_holder_mends_a_damaged_store(self, store: Store, other: Store, damage: Damage, namespace: str) -> None:
        """A worker that holds what was damaged is asked for it, and is sent nothing else."""
        leader = Worker(store, "a")
        grant = leader.bring("v1")
        meta = store.inspect().meta
        assert meta is not None
        damage.payload(namespace, None)
        leader.adopt(meta)
        reply = leader.poll()
        assert (reply.unchanged, reply.republish, reply.payload) == (False, True, None)
        assert leader.publish(grant, "v1") is Published.STORED
        assert Worker(other, "b").poll().payload == b"payload of v1"

    def test_a_payload_that_nobody_can_read_is_replaced(
        self, store: Store, other: Store, damage: Damage, namespace: str
    ) -> None:
        """Only a reader sees that bytes of the right length are broken; it discards them, and a holder repairs."""
        grant = Worker(store, "a").bring("v1")
        damage.payload(namespace, b"garbage of v1")
        assert Worker(other, "b").poll().payload == b"garbage of v1"
        assert other.discard("b", "v1")
        assert Worker(store, "a").publish(grant, "v1") is Published.STORED
        assert Worker(other, "b").poll().payload == b"payload of v1"

    def test_a_store_of_garbage_begins_anew(self, store: Store, other: Store, damage: Damage, namespace: str) -> None:
        """Whatever is in its place, the store answers and takes new definitions."""
        Worker(store, "a").bring("v1")
        damage.everything(namespace)
        leader = Worker(store, "a", last_grant=store.inspect().clock, interval=AT_ONCE)
        self.assert_absent_and_mended(leader, other)
        assert store.renew("a", LONG)

    def assert_absent_and_mended(self, leader: Worker, other: Store) -> None:
        """Check that nothing is stored, and that the next publication is accepted."""
        reply = Worker(other, "reader", may_lead=False).poll()
        assert (reply.meta, reply.payload, reply.unchanged) == (None, None, False)
        assert other.inspect().meta is None
        assert not other.confirm("reader", "v1", leader.bring("v2"), lease=LONG)
        reply = Worker(other, "reader", may_lead=False).poll()
        assert reply.payload == b"payload of v2"
        assert reply.meta == other.inspect().meta
