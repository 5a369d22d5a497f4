"""A client's own poll and a push: exactly one of the two hands over definitions."""

from __future__ import annotations

import pytest

from flagcache.clients import Clients
from flagcache.runtime.callers import thread_record
from flagcache.vendor import Definitions, Fetcher
from tests.support.in_process_fleet import Fleet, content, in_thread

OLD, NEW = content(1), content(2)


class AdoptingClient:
    """A client that adopts what a test says."""

    gone = False
    listening = True
    polls = True
    poll_interval = 30.0
    polling: bool | None = True
    asking = True
    project = ""
    can_fetch = False
    fetcher: Fetcher | None = None

    def __init__(self, has: Definitions | None) -> None:
        self.current = has

    @property
    def has_no_flags(self) -> bool:
        """As the protocol says."""
        return self.current is None

    def has(self, definitions: Definitions) -> bool:
        """As the protocol says."""
        return self.current is definitions

    def differs_from(self, definitions: Definitions) -> bool:
        """As the protocol says."""
        return self.current is not definitions

    def close(self) -> None:
        """Nothing to close."""

    def poll(self) -> None:
        """It isn't called here."""


@pytest.fixture
def client() -> AdoptingClient:
    """One that has older definitions."""
    return AdoptingClient(OLD)


@pytest.fixture
def clients(client: AdoptingClient) -> Clients:
    """Its registry."""
    clients = Clients()
    clients.add(client)
    return clients


def hands_over(clients: Clients, definitions: Definitions, now: float) -> bool:
    """Whether the calling thread must hand these over."""
    return clients.may_hand_over(clients.asking(thread_record()), definitions, now)


def test_of_two_threads_that_meet_one_hands_over(clients: Clients, client: AdoptingClient) -> None:
    """While one thread's client adopts its definitions, another thread gets None."""
    assert hands_over(clients, NEW, 100.0)
    assert not in_thread(lambda: hands_over(clients, NEW, 100.2))
    assert in_thread(lambda: clients.being_adopted(client, NEW, 100.2))


def test_what_was_not_adopted_is_given_again(clients: Clients, client: AdoptingClient) -> None:
    """A thread that comes back without them, or takes longer than a second, has not adopted them."""
    assert hands_over(clients, NEW, 100.0)
    assert hands_over(clients, NEW, 100.2)  # the same thread asks again: its client did not take it
    assert in_thread(lambda: hands_over(clients, NEW, 101.3))
    assert not in_thread(lambda: clients.being_adopted(client, OLD, 101.4))


def test_the_clock_may_be_stepped_back(clients: Clients) -> None:
    """What was handed over in the future is no reason to wait for it."""
    assert hands_over(clients, NEW, 100.0)
    assert in_thread(lambda: hands_over(clients, NEW, 50.0))


def test_newer_ones_are_handed_over_meanwhile(clients: Clients) -> None:
    """Only the same definitions are left to the other thread."""
    assert hands_over(clients, NEW, 100.0)
    assert in_thread(lambda: hands_over(clients, content(3), 100.1))


def test_who_has_none_is_given_them_by_every_thread(clients: Clients, client: AdoptingClient) -> None:
    """With None the SDK would fetch for itself while it has no flags."""
    client.current = None
    assert hands_over(clients, NEW, 100.0)
    assert in_thread(lambda: hands_over(clients, NEW, 100.1))


def test_who_holds_them_needs_nothing(clients: Clients, client: AdoptingClient) -> None:
    """Also long after they were handed over, and on any thread."""
    client.current = NEW
    assert not hands_over(clients, NEW, 100.0)
    assert not in_thread(lambda: hands_over(clients, NEW, 200.0))


def test_a_thread_that_asks_for_nobody_known_is_given_them(clients: Clients, client: AdoptingClient) -> None:
    """A client that loads for the first time, or was never attached, is unknown."""
    client.asking = False
    client.current = NEW
    assert hands_over(clients, NEW, 100.0)


def test_a_client_that_takes_nothing_holds_readiness_up_for_seconds(fleet: Fleet) -> None:
    """The process is not ready while its client has no flags, and is ready five seconds later; then it stays so."""
    process = fleet.process()
    process.poll()
    process.config.clients.add(AdoptingClient(None))
    ready = [process.worker.ready]
    for seconds in (4.9, 0.2):
        fleet.clock.advance(seconds)
        ready.append(process.worker.ready)
    process.config.clients.add(AdoptingClient(None))
    assert [*ready, process.worker.ready] == [False, False, True, True]
