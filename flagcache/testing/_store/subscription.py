"""Notices: a store that can send them sends one for each change, and no other.

To show that something sends no notice, a test does it and then something that does: the next notice is that one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import cast

import pytest

from flagcache.errors import StoreError
from flagcache.stores.abilities import Subscribable, Subscription
from flagcache.stores.base import Notice, Published, Scope, Store
from flagcache.testing._store.cases import AT_ONCE, LONG, Cases, MakeStore, Worker, envelope, repair

__all__ = ["SubscriptionContract"]

WAIT = 10.0
"""Seconds within which a notice must come."""


def subscribe(store: Store) -> Subscription:
    """Subscribe to a store that has the ability."""
    return cast("Subscribable", store).subscribe()


class SubscriptionContract(Cases):
    """A store that is `Subscribable`."""

    @pytest.fixture
    def subscription(self, other: Store) -> Iterator[Subscription]:
        """Subscribe to the namespace through the other handle."""
        subscription = subscribe(other)
        yield subscription
        subscription.close()

    def test_a_publication_is_told(self, store: Store, subscription: Subscription) -> None:
        """Each publication of other definitions sends one notice with their epoch and version, in order."""
        repair(store, "v1", age=LONG)
        repair(store, "v2", epoch=3)
        assert subscription.get(WAIT) == Notice("new", 0, "v1")
        assert subscription.get(WAIT) == Notice("new", 3, "v2")

    def test_what_wakes_nobody_is_not_told(self, store: Store, subscription: Subscription) -> None:
        """Confirmations, refused publications, renewals and late discards send no notice."""
        leader = Worker(store, "a", interval=AT_ONCE)
        grant = leader.bring("v1")
        assert subscription.get(WAIT) == Notice("new", 0, "v1")
        store.confirm("a", "v1", leader.granted(), lease=LONG)
        assert leader.publish(leader.granted(), "v1") is Published.CONFIRMED
        assert store.publish("b", envelope(grant, "v0"), fresh=False, lease=LONG) is Published.STALE
        store.renew("a", LONG)
        store.release("b", idle=True)
        store.discard("b", "v0")
        leader.bring("v2")
        assert subscription.get(WAIT) == Notice("new", 0, "v2")

    @pytest.mark.parametrize("how", ["confirmed", "published again"])
    def test_the_first_signature_is_told(self, store: Store, subscription: Subscription, how: str) -> None:
        """Processes with a key doubt unsigned times, so the first signature sends a notice; later ones don't."""
        leader = Worker(store, "a", interval=AT_ONCE)
        leader.bring("v1")
        for stamp in ("first", "second"):
            grant = leader.granted()
            if how == "confirmed":
                assert store.confirm("a", "v1", grant, lease=LONG, stamp=stamp)
            else:
                content = envelope(grant, "v1")
                content = content._replace(meta=content.meta._replace(stamp=stamp))
                assert store.publish("a", content, fresh=True, lease=LONG) is Published.CONFIRMED
        leader.bring("v2")
        told = [subscription.get(WAIT) for _ in range(3)]
        assert told == [Notice("new", 0, "v1"), Notice("note", 0, "v1"), Notice("new", 0, "v2")]

    def test_a_lacking_key_is_told(self, store: Store, subscription: Subscription) -> None:
        """A lacking key sends a notice, so that holders look: they may lack it too, and replace what is stored."""
        repair(store, "v1")
        assert store.report("a", "v1", LONG)
        assert not store.report("b", "v1", LONG)
        repair(store, "v2", epoch=1)
        told = [subscription.get(WAIT) for _ in range(3)]
        assert told == [Notice("new", 0, "v1"), Notice("note", 0, "v1"), Notice("new", 1, "v2")]

    def test_a_discard_is_told(self, store: Store, subscription: Subscription) -> None:
        """A discard sends a notice, so that a holder brings the definitions back at once."""
        repair(store, "v1")
        store.discard("a", "v1")
        assert subscription.get(WAIT) == Notice("new", 0, "v1")
        assert subscription.get(WAIT) == Notice("note", 0, "")

    def test_a_failure_that_frees_the_lease_is_told(self, store: Store, subscription: Subscription) -> None:
        """A failure that frees the lease sends a notice, so that another worker takes over at once."""
        leader = Worker(store, "a")
        leader.fail(leader.granted())
        assert subscription.get(WAIT) == Notice("free", 0, "")

    def test_a_failure_for_all_is_told_once(self, store: Store, subscription: Subscription) -> None:
        """A failure for all sends a notice when it begins and when a fetch succeeds, not each time that it recurs."""
        leader = Worker(store, "a", interval=AT_ONCE)
        leader.bring("v1")
        for _ in range(2):
            assert leader.fail(leader.granted(), Scope.EVERYBODY, status=402, retry_after=0)
        assert store.confirm("a", "v1", leader.granted(), lease=LONG)
        leader.bring("v2")
        told = [subscription.get(WAIT) for _ in range(4)]
        assert told == [
            Notice(kind, 0, version) for kind, version in (("new", "v1"), ("note", "v1"), ("note", "v1"), ("new", "v2"))
        ]

    def test_a_release_is_told(self, store: Store, subscription: Subscription) -> None:
        """A released lease sends a notice, so that it is taken at once."""
        Worker(store, "a").poll()
        store.release("a", idle=True)
        assert subscription.get(WAIT) == Notice("free", 0, "")

    def test_a_release_tells_what_is_stored(self, store: Store, subscription: Subscription) -> None:
        """The notice of a free lease names the stored version, for processes that missed it."""
        Worker(store, "a").bring("v1")
        store.release("a", idle=True)
        assert subscription.get(WAIT) == Notice("new", 0, "v1")
        assert subscription.get(WAIT) == Notice("free", 0, "v1")

    def test_clear_is_told(self, store: Store, subscription: Subscription) -> None:
        """`clear` sends a notice with the new epoch."""
        store.clear()
        assert subscription.get(WAIT) == Notice("clear", 1, "")

    def test_all_subscribers_are_told(self, store: Store, other: Store, subscription: Subscription) -> None:
        """Each subscription gets each notice, on any handle."""
        second = subscribe(store)
        repair(other, "v1")
        assert subscription.get(WAIT) == second.get(WAIT) == Notice("new", 0, "v1")
        second.close()

    def test_subscribers_hear_of_their_namespace_alone(
        self, store: Store, make_store: MakeStore, namespace: str, subscription: Subscription
    ) -> None:
        """Notices of another namespace do not come."""
        neighbour = make_store(f"{namespace}:b")
        repair(neighbour, "v1")
        neighbour.close()
        repair(store, "v2")
        assert subscription.get(WAIT) == Notice("new", 0, "v2")

    def test_without_news_the_wait_ends(self, subscription: Subscription) -> None:
        """`get` without a notice returns None when its time is over, and not before."""
        began = time.monotonic()
        assert subscription.get(0.05) is None
        assert time.monotonic() - began >= 0.04

    def test_closing_wakes_who_waits(self, subscription: Subscription) -> None:
        """A `get` that waits on another thread ends when the subscription is closed."""
        waiting = threading.Event()

        def wait() -> None:
            waiting.set()
            with contextlib.suppress(StoreError):  # a stream that was closed may say so
                subscription.get(10 * WAIT)

        waiter = threading.Thread(target=wait, daemon=True)
        waiter.start()
        assert waiting.wait(WAIT)
        subscription.close()
        waiter.join(WAIT)
        assert not waiter.is_alive()
