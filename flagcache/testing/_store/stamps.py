"""Stamps: stored, returned and dropped together with what they sign; and epochs without a signature."""

from __future__ import annotations

from flagcache.stores.base import Envelope, Order, Published, Scope, Store
from flagcache.testing._store.cases import AT_ONCE, LONG, Cases, Worker, envelope, repair

__all__ = ["StampCases"]


def _stamped(content: Envelope, stamp: str) -> Envelope:
    return content._replace(meta=content.meta._replace(stamp=stamp))


def _bring(worker: Worker, version: str, stamp: str) -> None:
    content = _stamped(envelope(worker.granted(), version), stamp)
    assert worker.store.publish(worker.me, content, fresh=True, lease=LONG) in (Published.STORED, Published.CONFIRMED)


class StampCases(Cases):
    """A store has no key: it keeps stamps as they are, together with the signed numbers."""

    def test_a_stamp_comes_with_the_metadata(self, store: Store, other: Store) -> None:
        """A reply has the stamp of the publication, and the next publication replaces it."""
        leader = Worker(store, "a", interval=AT_ONCE)
        _bring(leader, "v1", "first")
        for told in (Worker(other, "b").poll().meta, other.inspect().meta):
            assert told is not None
            assert told.stamp == "first"
        for version in ("v1", "v2"):
            _bring(leader, version, f"of {version}")
            told = Worker(other, "b").poll().meta
            assert told is not None
            assert told.stamp == f"of {version}"

    def test_a_confirmation_brings_its_own_stamp(self, store: Store, other: Store) -> None:
        """The times move with their stamp; a late confirmation moves neither."""
        leader = Worker(store, "a", interval=AT_ONCE)
        early = leader.granted()
        _bring(leader, "v1", "first")
        grant = leader.granted()
        assert store.confirm("a", "v1", grant, lease=LONG, stamp="second")
        assert store.confirm("a", "v1", early, lease=LONG, stamp="late")
        told = Worker(other, "b").poll().meta
        assert told is not None
        assert (told.as_of, told.stamp) == (grant.as_of, "second")

    def test_the_same_content_once_more_brings_its_stamp(self, store: Store, other: Store) -> None:
        """Definitions that are published again under another key have a stamp of that key."""
        meta = repair(store, "v1")
        content = _stamped(Envelope(meta, b"payload of v1"), "anew")
        assert other.publish("b", content, fresh=False, lease=LONG) is Published.CONFIRMED
        stored = store.inspect().meta
        assert stored is not None
        assert stored.stamp == "anew"

    def test_the_latest_failure_is_told_with_its_stamp_once_no_try_is_left(self, store: Store, other: Store) -> None:
        """A failure of one process alone is no note; replies have its stamp only if no try is left."""
        for number, name in enumerate("abc"):
            grant = Worker(store, name, interval=LONG).granted()
            assert not Worker(other, "z", may_lead=False).poll().backoff_stamp
            assert store.fail(name, grant.as_of, Scope.MINE, status=401, stamp=f"failed {number}")
        told = Worker(other, "z", may_lead=False).poll()
        assert (told.exhausted, told.backoff_status, told.backoff_left, told.backoff_stamp) == (True, 0, 0, "failed 2")

    def test_a_failure_of_one_leaves_the_stamp_of_a_note(self, store: Store, other: Store) -> None:
        """A note and its stamp last until a fetch succeeds."""
        leader = Worker(store, "a", interval=AT_ONCE)
        store.fail("a", leader.granted().as_of, Scope.EVERYBODY, status=402, retry_after=0, stamp="noted")
        store.fail("a", leader.granted().as_of, Scope.MINE, stamp="failed")
        told = Worker(other, "z", may_lead=False).poll()
        assert (told.backoff_status, told.backoff_stamp) == (402, "noted")

    def test_what_comes_without_a_stamp_has_none(self, store: Store) -> None:
        """A stamp is dropped together with its times."""
        leader = Worker(store, "a", interval=AT_ONCE)
        _bring(leader, "v1", "first")
        leader.bring("v2")
        stored = store.inspect().meta
        assert stored is not None
        assert stored.stamp == ""

    def test_a_note_comes_with_its_stamp(self, store: Store, other: Store) -> None:
        """Replies have the note's stamp while the note lasts; a success ends both."""
        leader = Worker(store, "a", interval=AT_ONCE)
        grant = leader.bring("v1")
        grant = leader.granted()
        assert store.fail("a", grant.as_of, Scope.EVERYBODY, status=402, retry_after=LONG, stamp="noted")
        reply = Worker(other, "b").poll()
        assert (reply.backoff_status, reply.backoff_stamp) == (402, "noted")
        assert store.confirm("a", "v1", grant, lease=LONG)
        reply = Worker(other, "b").poll()
        assert (reply.backoff_status, reply.backoff_stamp) == (0, "")

    def test_a_note_that_is_not_believed_stops_nobody(self, store: Store) -> None:
        """A worker that ignores the note gets the grant that is due; the others wait."""
        leader = Worker(store, "a", interval=AT_ONCE)
        leader.fail(leader.granted(), Scope.EVERYBODY, status=402, retry_after=LONG)
        assert leader.poll().grant is None
        leader.disbelieves = True
        reply = leader.poll()
        assert reply.grant is not None
        assert (reply.backoff_status, reply.backoff_left) == (402, 0)

    def test_who_has_a_key_is_told_another_epoch(self, store: Store, other: Store) -> None:
        """A worker with a key gets epoch and stamp if the epoch differs from what it holds; others never get them."""
        assert store.clear("signed") == 1
        meta = repair(store, "v1", epoch=1)
        told = [Worker(other, "b", signs=True), Worker(other, "c", signs=True, held=Order(0, 1), held_version="v0")]
        assert [(reply.epoch, reply.epoch_stamp) for reply in (worker.poll() for worker in told)] == [(1, "signed")] * 2
        for worker in (Worker(other, "d"), Worker(other, "e", signs=True, held=meta.order, held_version="v1")):
            reply = worker.poll()
            assert (reply.epoch, reply.epoch_stamp) == (-1, "")

    def test_an_epoch_that_nobody_signed_gives_way(self, store: Store, other: Store) -> None:
        """A holder that names this unsigned epoch replaces it by its own; the definitions stay."""
        held = repair(store, "v1")
        store.clear()
        meta = repair(store, "v2", epoch=1)
        holder = Worker(other, "b", may_lead=False, signs=True, held=held.order, held_version="v1", epoch_stamp="mine")
        for doubted in (0, 2):
            holder.unsigned_epoch = doubted
            assert holder.poll().epoch == 1
        holder.unsigned_epoch = 1
        reply = holder.poll()
        assert (reply.epoch, reply.payload) == (-1, b"payload of v2")
        assert store.inspect().meta == meta._replace(epoch=0)
        newcomer = Worker(store, "c", signs=True).poll()
        assert newcomer.epoch == -1  # the epoch is 0, which a newcomer assumes

    def test_an_epoch_that_was_signed_since_stays(self, store: Store, other: Store) -> None:
        """If people raised the epoch to the number that a holder found unsigned, the holder's doubt is out of date."""
        held = repair(store, "v1")
        assert store.clear("signed") == 1
        doubts = Worker(other, "b", may_lead=False, signs=True, held=held.order, held_version="v1", epoch_stamp="mine")
        doubts.unsigned_epoch = 1
        for doubts.doubted_stamp in ("", "forged"):
            reply = doubts.poll()
            assert (reply.epoch, reply.epoch_stamp) == (1, "signed")
        doubts.doubted_stamp = "signed"  # by a key that the holder lacks
        assert doubts.poll().epoch == -1

    def test_a_store_that_lost_its_epoch_is_given_the_proof(self, store: Store, other: Store) -> None:
        """A holder of a higher epoch sends its stamp, so that others believe it."""
        now = store.inspect().clock
        Worker(
            store, "a", may_lead=False, signs=True, held=Order(3, now), held_version="v1", epoch_stamp="third"
        ).poll()
        reply = Worker(other, "b", may_lead=False, signs=True).poll()
        assert (reply.epoch, reply.epoch_stamp) == (3, "third")
