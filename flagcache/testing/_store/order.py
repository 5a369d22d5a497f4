"""Publishing, confirming and discarding: definitions never become older, and a late writer changes nothing."""

from __future__ import annotations

from flagcache.stores.base import Envelope, Grant, Meta, Order, Published, Store
from flagcache.testing._store.cases import AT_ONCE, LONG, Cases, Worker, envelope, repair

__all__ = ["OrderCases"]


def stored(store: Store) -> Meta | None:
    """Return the metadata of the stored definitions."""
    return store.inspect().meta


def tagged(content: Envelope, etag: str) -> Envelope:
    """Return the same content with this entity tag."""
    return content._replace(meta=content.meta._replace(etag=etag))


class OrderCases(Cases):
    """What is stored only becomes newer."""

    def test_what_is_published_is_stored(self, store: Store, other: Store) -> None:
        """An asker that holds nothing gets the payload and all metadata."""
        grant = Worker(store, "a").granted()
        meta = Meta("v1", grant.epoch, grant.as_of, grant.at, grant.at, 'W/"é"', "library/1.2", "7")
        assert store.publish("a", Envelope(meta, b"definitions"), fresh=True, lease=LONG) is Published.STORED
        reply = Worker(other, "b").poll()
        assert (reply.meta, reply.payload, reply.unchanged) == (meta, b"definitions", False)

    def test_newer_replaces_older(self, store: Store, other: Store) -> None:
        """The next fetch's definitions take the place of the last."""
        leader = Worker(store, "a")
        leader.bring("v1")
        leader.interval = AT_ONCE
        grant = leader.bring("v2")
        reply = Worker(other, "b").poll()
        assert reply.payload == envelope(grant, "v2").payload
        assert reply.meta == envelope(grant, "v2").meta

    def test_older_and_equally_old_are_refused(self, store: Store, other: Store) -> None:
        """A repair with definitions that are not newer than the stored ones changes nothing."""
        meta = repair(store, "v1")
        for age in (1, 0):
            as_of = meta.as_of - age
            content = envelope(Grant(0, as_of, as_of), "v2")
            assert other.publish("b", content, fresh=False, lease=LONG) is Published.STALE
            assert stored(store) == meta

    def test_what_is_stored_already_is_never_refused(self, store: Store, other: Store) -> None:
        """The stored version with an older time counts as stored, so its writer doesn't take it for superseded."""
        meta = repair(store, "v1")
        for as_of in (meta.as_of - 1, meta.as_of):
            content = envelope(Grant(0, as_of, as_of), "v1")
            for fresh in (False, True):
                assert other.publish("b", content, fresh=fresh, lease=LONG) is Published.CONFIRMED
            assert stored(store) == meta

    def test_a_late_writer_is_refused(self, store: Store, other: Store) -> None:
        """A later grant of a worker that does not report counts from when it was given.

        a is granted a fetch and freezes; b takes over and asks the vendor later than a did; a thaws and publishes. It
        is refused for now, and for good once b's definitions are stored.
        """
        meta = repair(store, "v1", age=LONG)
        late, punctual = Worker(store, "a"), Worker(other, "b")
        first = late.granted()
        store.release("a", idle=False)
        second = punctual.granted()
        assert late.publish(first, "v2") is Published.UNSETTLED
        assert stored(store) == meta
        assert punctual.publish(second, "v3") is Published.STORED
        assert late.publish(first, "v2") is Published.STALE

    def test_a_grant_that_failed_holds_nobody_up(self, store: Store, other: Store) -> None:
        """What an earlier grant brought is stored if the later fetch is known to have failed."""
        repair(store, "v1", age=LONG)
        late, punctual = Worker(store, "a"), Worker(other, "b")
        first = late.granted()
        store.release("a", idle=False)
        second = punctual.granted()
        assert late.publish(first, "v2") is Published.UNSETTLED
        assert punctual.fail(second)
        assert late.publish(first, "v2") is Published.STORED

    def test_an_open_grant_of_who_reports_holds_nobody_up(self, store: Store, other: Store) -> None:
        """A later grant whose holder reports counts only when it answers."""
        repair(store, "v1", age=LONG)
        late, punctual = Worker(store, "a"), Worker(other, "b", reports=True)
        first = late.granted()
        store.release("a", idle=False)
        second = punctual.granted()
        assert late.publish(first, "v2") is Published.STORED
        assert punctual.publish(second, "v3") is Published.STORED

    def test_silent_grants_count_after_later_ones(self, store: Store, other: Store) -> None:
        """A grant whose holder doesn't report still counts after a later one failed, or went to one that reports."""
        repair(store, "v1", age=LONG)
        late, silent = Worker(store, "a"), Worker(other, "b", interval=AT_ONCE)
        first = late.granted()
        store.release("a", idle=False)
        silent.granted()
        other.release("b", idle=True)
        reporting = Worker(other, "c", interval=AT_ONCE, reports=True)
        assert reporting.fail(reporting.granted())
        assert late.publish(first, "v2") is Published.UNSETTLED

    def test_an_empty_store_takes_what_a_late_writer_brings(self, store: Store, other: Store) -> None:
        """Old definitions are better than none; those of the later grant then replace them."""
        late, punctual = Worker(store, "a"), Worker(other, "b")
        first = late.granted()
        store.release("a", idle=False)
        second = punctual.granted()
        assert late.publish(first, "v1") is Published.STORED
        assert punctual.publish(second, "v2") is Published.STORED

    def test_a_late_writer_does_not_undo_a_confirmation(self, store: Store, other: Store) -> None:
        """What was confirmed after a grant is newer than what that grant brings."""
        repair(store, "v1", age=LONG)
        late, punctual = Worker(store, "a"), Worker(other, "b")
        first = late.granted()
        store.release("a", idle=False)
        assert other.confirm("b", "v1", punctual.granted(), lease=LONG)
        meta = stored(store)
        assert late.publish(first, "v2") is Published.STALE
        assert other.publish("a", envelope(first, "v2"), fresh=False, lease=LONG) is Published.STALE
        assert stored(store) == meta

    def test_the_stored_version_again_confirms_it(self, store: Store) -> None:
        """A publication of the stored version moves its ages, and keeps the time of its last change."""
        leader = Worker(store, "a")
        first = leader.bring("v1")
        leader.interval = AT_ONCE
        second = leader.granted()
        assert leader.publish(second, "v1") is Published.CONFIRMED
        expected = envelope(second, "v1").meta._replace(changed_at=first.at)
        assert stored(store) == expected

    def test_payload_and_metadata_are_written_together(self, store: Store, other: Store) -> None:
        """If the stored version comes again, as old or newer, its payload is stored: its key may be another one."""
        leader = Worker(store, "a", interval=AT_ONCE)
        first = leader.bring("v1")
        meta, payload = envelope(first, "v1").meta, b""
        for etag, grant in (("e1", first), ("e2", leader.granted())):
            payload = f"v1 under the key of {etag}".encode()
            content = Envelope(meta._replace(as_of=grant.as_of, confirmed_at=grant.at, etag=etag), payload)
            assert other.publish("a", content, fresh=grant is not first, lease=LONG) is Published.CONFIRMED
            reply = Worker(store, "b").poll()
            assert (reply.payload, reply.meta) == (payload, content.meta)
            assert store.inspect().payload_size == len(payload)
        older = Envelope(meta._replace(as_of=first.as_of - 1), b"an older one")
        assert other.publish("b", older, fresh=False, lease=LONG) is Published.CONFIRMED
        assert Worker(store, "b").poll().payload == payload

    def test_the_stored_version_again_keeps_an_entity_tag(self, store: Store) -> None:
        """If the confirming publication has no entity tag, the stored tag stays; another tag replaces it."""
        leader = Worker(store, "a", interval=AT_ONCE)
        for etag, kept in (("e1", "e1"), ("", "e1"), ("e2", "e2")):
            content = tagged(envelope(leader.granted(), "v1"), etag)
            assert store.publish("a", content, fresh=True, lease=LONG) is not Published.STALE
            meta = stored(store)
            assert meta is not None
            assert meta.etag == kept

    def test_other_definitions_bring_their_own_entity_tag(self, store: Store) -> None:
        """An entity tag never outlives its content."""
        leader = Worker(store, "a", interval=AT_ONCE)
        store.publish("a", tagged(envelope(leader.granted(), "v1"), "e1"), fresh=True, lease=LONG)
        leader.bring("v2")
        meta = stored(store)
        assert meta is not None
        assert meta.etag == ""

    def test_a_confirmation_moves_the_ages(self, store: Store) -> None:
        """`confirm` moves `as_of` and `confirmed_at` to the grant's time, and nothing else."""
        leader = Worker(store, "a")
        first = leader.bring("v1")
        leader.interval = AT_ONCE
        second = leader.granted()
        assert store.confirm("a", "v1", second, lease=LONG)
        meta = envelope(first, "v1").meta
        assert stored(store) == meta._replace(as_of=second.as_of, confirmed_at=second.at)
        assert second.as_of > first.as_of

    def test_a_confirmation_never_moves_ages_back(self, store: Store) -> None:
        """`confirm` under an older grant returns True, and changes nothing."""
        leader = Worker(store, "a")
        first = leader.bring("v1")
        meta = stored(store)
        older = first._replace(as_of=first.as_of - LONG, at=first.at - LONG)
        assert store.confirm("a", "v1", older, lease=LONG)
        assert stored(store) == meta

    def test_only_the_stored_version_is_confirmed(self, store: Store) -> None:
        """`confirm` of another version, or in an empty store, returns False and changes nothing."""
        leader = Worker(store, "a")
        grant = leader.granted()
        assert not store.confirm("a", "v1", grant, lease=LONG)
        assert leader.publish(grant, "v1") is Published.STORED
        meta = stored(store)
        later = grant._replace(as_of=grant.as_of + LONG, at=grant.at + LONG)
        assert not store.confirm("a", "v2", later, lease=LONG)
        assert stored(store) == meta

    def test_only_the_stored_version_is_discarded(self, store: Store, other: Store) -> None:
        """`discard` of another version returns False; of the stored one it leaves nothing."""
        meta = repair(store, "v1")
        assert not other.discard("b", "v0")
        assert stored(store) == meta
        assert other.discard("b", "v1")
        assert not other.discard("b", "v1")
        reply = Worker(store, "a").poll()
        assert (reply.meta, reply.payload, reply.unchanged) == (None, None, False)
        assert store.inspect().payload_size == 0

    def test_anything_goes_where_something_was_discarded(self, store: Store, other: Store) -> None:
        """After a discard older definitions are accepted, because a worker that can read any brings them."""
        meta = repair(store, "v2")
        store.discard("a", "v2")
        older = repair(other, "v1", age=LONG)
        assert older.order < meta.order
        assert stored(store) == older

    def test_who_holds_the_discarded_definitions_is_asked_for_them(self, store: Store, other: Store) -> None:
        """After a discard the next holder of definitions is asked for them, even if one was asked just before."""
        now = store.inspect().clock
        holder = Worker(other, "b", held=Order(0, now), held_version="v1")
        assert holder.poll().republish
        meta = Meta("v1", 0, now, now, now)
        assert other.publish("b", Envelope(meta, b"spoilt"), fresh=False, lease=LONG) is Published.STORED
        assert holder.poll().unchanged
        store.discard("a", "v1")
        assert holder.poll().republish
        content = Envelope(meta, b"whole again")
        assert other.publish("b", content, fresh=False, lease=LONG) is Published.STORED
        assert Worker(store, "a").poll().payload == b"whole again"
        assert stored(store) == meta
