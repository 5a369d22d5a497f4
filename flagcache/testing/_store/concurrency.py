"""Many callers at one instant: threads with a handle each, and processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import pytest

from flagcache.stores.base import Grant, Order, Published, Reply, Store
from flagcache.testing._store.cases import LONG, SHORT, Cases, MakeStore, PassTime, Worker, envelope

__all__ = ["ConcurrencyCases", "ProcessContract"]

T = TypeVar("T")

CROWD = 8
ROUNDS = 5
WAIT = 30.0
"""Seconds after which a crowd that does not come together fails the test."""


def at_once(act: Callable[[int], T]) -> list[T]:
    """Run `act(0)` to `act(CROWD - 1)` on threads that start together."""
    barrier = threading.Barrier(CROWD)

    def run(number: int) -> T:
        barrier.wait(WAIT)
        return act(number)

    with ThreadPoolExecutor(CROWD) as pool:
        return list(pool.map(run, range(CROWD)))


@contextmanager
def handles(make_store: MakeStore, namespace: str) -> Generator[list[Store]]:
    """Open the namespace once for each of a crowd."""
    stores = [make_store(namespace) for _ in range(CROWD)]
    yield stores
    for store in stores:
        store.close()


def poll_at_once(stores: list[Store], held: Order | None = None) -> list[Reply]:
    """Let a crowd of workers poll at one instant, each through its own handle."""
    return at_once(lambda n: Worker(stores[n], f"w{n}", held=held, held_version="v1" if held else "").poll())


def assert_one_leads(replies: list[Reply]) -> None:
    """Check that one of them leads and that this one was granted the fetch."""
    assert [reply.grant is not None for reply in replies if reply.leads] == [True]
    assert sum(reply.grant is not None for reply in replies) == 1
    assert all(reply.lease_left > 0 for reply in replies)


class ConcurrencyCases(Cases):
    """Each verb is atomic."""

    def test_many_who_ask_an_empty_store_at_once_get_one_leader(self, make_store: MakeStore, namespace: str) -> None:
        """However many threads ask at one instant, one leads and is granted one fetch."""
        for number in range(ROUNDS):
            with handles(make_store, f"{namespace}-{number}") as stores:
                assert_one_leads(poll_at_once(stores))

    def test_many_who_ask_when_the_lease_ends_get_one_leader(
        self, make_store: MakeStore, namespace: str, store: Store, pass_time: PassTime
    ) -> None:
        """However many threads see a leader die, one follows it, with one grant."""
        Worker(store, "first", cold_lease=SHORT).granted()
        pass_time(SHORT)
        with handles(make_store, namespace) as stores:
            assert_one_leads(poll_at_once(stores))

    def test_many_who_publish_at_once_leave_the_newest(self, make_store: MakeStore, namespace: str) -> None:
        """The newest of many publications is what is stored in the end, payload and metadata together."""
        with handles(make_store, namespace) as stores:
            now = stores[0].inspect().clock

            def publish(number: int) -> Published:
                content = envelope(Grant(0, now + number, now), f"v{number}")
                return stores[number].publish(f"w{number}", content, fresh=False, lease=LONG)

            assert at_once(publish)[-1] is Published.STORED
            reply = Worker(stores[0], "reader", may_lead=False).poll()
        last = f"v{CROWD - 1}"
        assert reply.meta is not None
        assert (reply.meta.version, reply.payload) == (last, f"payload of {last}".encode())

    def test_many_who_could_repair_at_once_are_not_all_asked(self, make_store: MakeStore, namespace: str) -> None:
        """Of many holders who find the store empty at one instant, one is asked."""
        with handles(make_store, namespace) as stores:
            replies = poll_at_once(stores, held=Order(0, stores[0].inspect().clock))
        asked = sorted(reply.clock for reply in replies if reply.republish)
        assert asked
        assert len(asked) == 1 or asked[-1] - asked[0] >= 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
class ProcessContract(Cases):
    """A store that several processes share. Its handles are made after the fork, in the process that uses them."""

    def test_many_processes_that_ask_at_once_get_one_leader(self, make_store: MakeStore, namespace: str) -> None:
        """However many processes ask an empty store at one instant, one leads and is granted one fetch."""
        context = multiprocessing.get_context("fork")
        barrier, answers = context.Barrier(CROWD), context.SimpleQueue()

        def run(number: int) -> None:
            store = make_store(namespace)
            barrier.wait(WAIT)
            reply = Worker(store, f"w{number}").poll()
            answers.put((reply.leads, reply.grant is not None))

        crowd = [context.Process(target=run, args=(number,)) for number in range(CROWD)]
        for process in crowd:
            process.start()
        for process in crowd:
            process.join(WAIT)
        assert [process.exitcode for process in crowd] == [0] * CROWD
        assert sorted(answers.get() for _ in crowd) == [(False, False)] * (CROWD - 1) + [(True, True)]

    def test_what_one_process_publishes_another_reads(self, make_store: MakeStore, namespace: str) -> None:
        """A publication outlives the process that made it."""

        def publish() -> None:
            Worker(make_store(namespace), "child").bring("v1")

        process = multiprocessing.get_context("fork").Process(target=publish)
        process.start()
        process.join(WAIT)
        assert process.exitcode == 0
        store = make_store(namespace)
        assert Worker(store, "parent").poll().payload == b"payload of v1"
        store.close()
