"""Replies to polls: the payload comes only if needed, byte for byte, and from the asker's own namespace alone."""

from __future__ import annotations

import pytest

from flagcache.stores.base import LARGEST_PAYLOAD, Envelope, Grant, Order, Published, Scope, Snapshot, Store
from flagcache.testing._store.cases import AT_ONCE, LONG, Cases, MakeStore, Worker, envelope, repair

__all__ = ["ReadingCases"]

PAYLOADS = {
    "all bytes": bytes(range(256)),
    "no text": b"\x00\xff\xfe\r\n\x00",
    "one byte": b"\x00",
    "a megabyte": bytes(range(256)) * 4096,
}

NAMES = [
    *("{}", "{}a", "{}A", "{}a:b", "{}:", ":{}", "{}*", "{}%3Aa", "{} ", "{}é"),
    *("{{{}}}", "{{a}}{}", "{}}}b", "{}{{b", "{{}}{}", "{{a}}{{{}}}"),
]
"""Namespaces that a store might mix up if it joins names carelessly."""


class ReadingCases(Cases):
    """What a poll returns of what is stored."""

    def test_an_empty_store_says_so(self, store: Store) -> None:
        """An empty store's reply has no metadata and no payload, and isn't "unchanged", whatever the asker holds."""
        for held in (None, Order(0, 0), Order(0, 1)):
            reply = Worker(store, "a", held=held, may_lead=False).poll()
            assert (reply.meta, reply.payload, reply.unchanged) == (None, None, False)

    def test_who_holds_what_is_stored_hears_that_it_is_unchanged(self, store: Store, other: Store) -> None:
        """An unchanged reply carries neither payload nor metadata."""
        meta = repair(store, "v1")
        reply = Worker(other, "a", held=meta.order, held_version="v1").poll()
        assert (reply.unchanged, reply.meta, reply.payload) == (True, None, None)
        assert not reply.republish

    def test_the_payload_comes_when_it_is_newer(self, store: Store, other: Store) -> None:
        """An asker that holds an older version gets the whole stored one."""
        meta = repair(store, "v2")
        reply = Worker(other, "a", held=Order(0, meta.as_of - 1), held_version="v1").poll()
        assert (reply.unchanged, reply.meta, reply.payload) == (False, meta, b"payload of v2")

    def test_the_payload_does_not_come_twice(self, store: Store, other: Store) -> None:
        """An asker that holds the stored version with an earlier time gets its new ages, without the payload."""
        meta = repair(store, "v1")
        reply = Worker(other, "a", held=Order(0, meta.as_of - 1), held_version="v1").poll()
        assert (reply.unchanged, reply.meta, reply.payload) == (False, meta, None)

    def test_an_older_payload_does_not_come(self, store: Store, other: Store) -> None:
        """An asker that holds newer definitions gets the metadata of the stored ones, without the payload."""
        meta = repair(store, "v1", age=LONG)
        reply = Worker(other, "a", held=Order(0, meta.as_of + 1), held_version="v2").poll()
        assert (reply.unchanged, reply.meta, reply.payload) == (False, meta, None)

    def test_a_payload_larger_than_the_asker_takes_is_not_sent(self, store: Store, other: Store) -> None:
        """The asker gets its metadata and why it was not sent; it stays in the store, and others can read it."""
        meta = repair(store, "v1")
        size = store.inspect().payload_size
        reply = Worker(other, "a", largest=size - 1).poll()
        assert (reply.meta, reply.payload, reply.too_large) == (meta, None, True)
        reply = Worker(other, "b", largest=size).poll()
        assert (reply.meta, reply.payload, reply.too_large) == (meta, b"payload of v1", False)

    def test_only_a_payload_that_is_wanted_is_too_large(self, store: Store, other: Store) -> None:
        """A process that holds the stored version, or newer definitions, needs no payload."""
        meta = repair(store, "v1", age=LONG)
        for held, version in ((meta.order, "v1"), (Order(0, meta.as_of - 1), "v1"), (Order(0, meta.as_of + 1), "v2")):
            assert not Worker(other, "a", held=held, held_version=version, largest=1).poll().too_large

    def test_a_payload_that_no_process_publishes_counts_as_absent(self, store: Store, other: Store) -> None:
        """Beyond `LARGEST_PAYLOAD` it is not sent; the next poll drops it, and the next publication is accepted."""
        leader = Worker(store, "a", interval=AT_ONCE)
        at = store.inspect().clock
        content = envelope(Grant(0, at, at), "v1")._replace(payload=bytes(LARGEST_PAYLOAD + 1))
        store.publish("a", content, fresh=False, lease=LONG)
        reply = Worker(other, "b", may_lead=False).poll()
        assert (reply.meta, reply.payload, reply.too_large) == (None, None, False)
        assert other.inspect().meta is None
        leader.bring("v2")
        assert Worker(other, "b").poll().payload == b"payload of v2"

    def test_the_largest_payload_is_sent(self, store: Store, other: Store) -> None:
        """Up to `LARGEST_PAYLOAD` bytes are a payload like any other."""
        at = store.inspect().clock
        content = envelope(Grant(0, at, at), "v1")._replace(payload=bytes(LARGEST_PAYLOAD))
        assert store.publish("a", content, fresh=False, lease=LONG) is Published.STORED
        assert len(Worker(other, "b").poll().payload or b"") == LARGEST_PAYLOAD

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
    def test_a_payload_comes_back_byte_for_byte(self, store: Store, other: Store, payload: bytes) -> None:
        """Any bytes come back unchanged, also a megabyte of them."""
        leader = Worker(store, "a")
        content = Envelope(envelope(leader.granted(), "v1").meta, payload)
        store.publish("a", content, fresh=True, lease=LONG)
        assert Worker(other, "b").poll().payload == payload
        assert store.inspect().payload_size == len(payload)

    def test_two_namespaces_never_meet(self, make_store: MakeStore, namespace: str) -> None:
        """Each namespace has its own lease, grants, definitions, note and epoch, however alike the names look."""
        names = [form.format(namespace) for form in NAMES]
        stores = [make_store(name) for name in names]
        for number, store in enumerate(stores):
            leader = Worker(store, f"leader-{number}")
            grant = leader.bring(f"v{number}")
            if number == 1:
                leader.fail(grant, Scope.EVERYBODY, status=429, retry_after=LONG)
        stores[0].clear()
        for number, store in enumerate(stores):
            seen = store.inspect()
            assert seen.leader == f"leader-{number}"
            assert seen.epoch == (1 if number == 0 else 0)
            assert seen.backoff_status == (429 if number == 1 else 0)
            reply = Worker(store, "reader", may_lead=False).poll()
            assert reply.payload == (None if number == 0 else f"payload of v{number}".encode())
            store.close()

    def test_an_empty_store_is_shown_empty(self, store: Store) -> None:
        """`inspect` of an unused namespace shows a clock, and nothing else."""
        seen = store.inspect()
        assert seen == Snapshot(seen.clock, 0, None, 0, "", 0, 0, "", 0, 0)
        assert seen.clock > 0

    def test_everything_is_shown(self, store: Store, other: Store) -> None:
        """`inspect` shows definitions, lease, latest grant and note, and changes nothing."""
        leader = Worker(store, "a")
        grant = leader.bring("v1")
        leader.fail(grant, Scope.EVERYBODY, status=402, retry_after=LONG)
        seen, again = other.inspect(), other.inspect()
        assert 0 < seen.lease_left <= LONG
        assert 0 < seen.backoff_left <= LONG
        lasting = seen._replace(clock=0, lease_left=0, backoff_left=0)
        meta = envelope(grant, "v1").meta
        assert lasting == Snapshot(0, 0, meta, len(b"payload of v1"), "a", 0, grant.at, "a", 402, 0)
        assert again._replace(clock=0, lease_left=0, backoff_left=0) == lasting

    def test_closing_one_handle_leaves_the_store(self, store: Store, other: Store) -> None:
        """`close` may be called twice, and other handles still work."""
        repair(store, "v1")
        store.close()
        store.close()
        assert Worker(other, "a").poll().payload == b"payload of v1"
