"""One cache in many processes: a worker of its own in each, and no exception out of any."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from typing import cast

import pytest

from flagcache.coordinator import Coordinator
from flagcache.events import Event, Events
from flagcache.settings import Settings
from flagcache.status import Role, State, Status
from flagcache.stores.memory import MemoryStore
from flagcache.tiers import StoreSpec
from flagcache.worker import Plan
from tests.worker.processes import FLEET, OWN, Fleet, Link, content, in_thread


class House:
    """One cache on a store in memory, with the clock and the ends in our hands."""

    def __init__(self, fleet: Fleet) -> None:
        self.link = Link(fleet.store)
        self.seen: list[Event] = []
        self.events = Events()
        self.events.subscribe(self.seen.append)
        stores = (StoreSpec(FLEET, self.link.open), StoreSpec(OWN, MemoryStore))
        self.plan = Plan("team", fleet.settings, fleet.vendor, stores, self.events, fleet.clock)
        self.coordinator = Coordinator(self.plan)


@pytest.fixture
def fleet() -> Fleet:
    """An empty store."""
    return Fleet(Settings(refresh_interval=30, cold_start_wait=0.05))


@pytest.fixture
def house(fleet: Fleet) -> House:
    """A cache that was not asked yet."""
    return House(fleet)


def bring(house: House, revision: int = 1) -> None:
    """Fetch, as the SDK does."""
    assert house.coordinator.should_fetch() is True
    house.coordinator.received(content(revision))


def in_child(report: Callable[[], list[object]]) -> list[object]:
    """What a forked child reports, as JSON carries it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, json.dumps(report()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return cast("list[object]", json.loads(told))


# --- status -----------------------------------------------------------------------------------------------------------


def test_to_make_one_and_to_look_at_it_asks_nobody(house: House) -> None:
    """Nothing is opened before the first question."""
    status = house.coordinator.status()
    assert status == Status(
        role=Role.NEW,
        state=State.EMPTY,
        namespace="team",
        store=FLEET,
        store_answers=True,
        worker=status.worker,
        pid=os.getpid(),
        version="",
        age=None,
        changed_age=None,
        writer="",
    )
    assert house.link.opened == 0


def test_the_status_tells_role_version_and_age() -> None:
    """Of a leader and of a follower; the age is the grant's."""
    fleet = Fleet(Settings(refresh_interval=30, cold_start_wait=20))
    house, follower = House(fleet), House(fleet)
    assert house.coordinator.should_fetch() is True
    fleet.clock.advance(4)
    house.coordinator.received(content(1))
    follower.coordinator.should_fetch()
    for role, cache in ((Role.LEADER, house), (Role.FOLLOWER, follower)):
        status = cache.coordinator.status()
        assert (status.role, status.state, status.writer) == (role, State.FRESH, "test/1")
        assert status.age == pytest.approx(4)
        assert status.changed_age == pytest.approx(4)
        assert status.version


def test_what_nobody_confirmed_for_long_is_stale(house: House, fleet: Fleet) -> None:
    """After `stale_after`, and not before."""
    bring(house)
    fleet.clock.advance(fleet.settings.stale_after)
    assert house.coordinator.status().state is State.FRESH
    fleet.clock.advance(0.1)
    assert house.coordinator.status().state is State.STALE


def test_a_confirmation_moves_the_age_and_not_the_changed_age(house: House, fleet: Fleet) -> None:
    """The content is as old as before."""
    bring(house)
    fleet.next_interval()
    bring(house)
    fleet.clock.advance(1)
    house.coordinator.should_fetch()
    status = house.coordinator.status()
    assert status.age == pytest.approx(1)
    assert status.changed_age == pytest.approx(31)


def test_the_status_says_that_the_store_is_away(house: House, fleet: Fleet) -> None:
    """And that nobody leads on it from here."""
    bring(house)
    house.link.cut = True
    house.coordinator.should_fetch()
    status = house.coordinator.status()
    assert (status.store_answers, status.role) == (False, Role.FOLLOWER)


def test_the_status_is_plain_json(house: House) -> None:
    """For a health page."""
    bring(house)
    told = json.loads(json.dumps(house.coordinator.status().as_dict(), allow_nan=False))
    assert (told["role"], told["state"], told["namespace"]) == ("leader", "fresh", "team")


# --- never an exception -----------------------------------------------------------------------------------------------


class Bug(Exception):
    """What nobody expects."""


@pytest.fixture
def broken(house: House) -> House:
    """A cache whose store raises what a store must not."""
    bring(house)

    def fail(verb: str) -> None:
        raise Bug(verb)

    house.link.before = fail
    return house


def test_a_bug_never_gets_out(broken: House, caplog: pytest.LogCaptureFixture) -> None:
    """With definitions in memory nobody is sent to fetch because of it, and they are handed out; it is logged."""
    assert broken.coordinator.should_fetch() is False
    assert broken.coordinator.definitions() == content(1)
    broken.coordinator.received(content(2))
    broken.coordinator.shutdown()
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "flagcache: could not decide who fetches 'team'",
        "flagcache: could not leave the fleet 'team' in order",
    ]


def test_with_nothing_held_a_bug_sends_to_fetch(house: House) -> None:
    """The SDK is to have flags then, rather than an empty answer."""

    def fail(verb: str) -> None:
        raise Bug(verb)

    house.link.before = fail
    assert house.coordinator.should_fetch() is True


@pytest.mark.parametrize("wrong", [None, [], {}, {"flags": None}])
def test_malformed_definitions_are_logged_and_dropped(
    house: House, wrong: object, caplog: pytest.LogCaptureFixture
) -> None:
    """What is held stays."""
    bring(house)
    house.coordinator.received(wrong)
    assert house.coordinator.definitions() == content(1)
    assert "could not share 'team'" in caplog.text


def test_an_interruption_is_not_swallowed(house: House) -> None:
    """`SystemExit` and its like are not ours to catch."""

    def leave(verb: str) -> None:
        raise SystemExit(3)

    house.link.before = leave
    with pytest.raises(SystemExit):
        house.coordinator.should_fetch()
    house.link.before = lambda _verb: None
    assert in_thread(house.coordinator.should_fetch) is True


# --- processes --------------------------------------------------------------------------------------------------------


def test_a_child_goes_on_as_another_process(house: House) -> None:
    """It holds what its parent held, under a name of its own, and leads nothing."""
    bring(house)
    parent = house.coordinator.status()

    def report() -> list[object]:
        status = house.coordinator.status()
        return [status.pid, status.worker, status.version, status.role.value, house.coordinator.definitions()]

    pid, worker, *rest = in_child(report)
    assert pid != parent.pid
    assert worker != parent.worker
    assert f":{pid}:" in str(worker)
    assert rest == [parent.version, "new", content(1)]


def test_a_child_contends_for_the_lease_like_anybody(house: House) -> None:
    """On a store that both reach it would follow; the parent stays what it was."""
    bring(house)
    assert in_child(lambda: [house.coordinator.should_fetch()]) == [False]
    assert house.coordinator.status().role is Role.LEADER


def test_a_fork_while_a_poll_is_under_way_does_not_hang_the_child(house: House) -> None:
    """No lock and no wait of the parent's other threads is inherited."""
    bring(house)
    polling, go_on = threading.Event(), threading.Event()

    def hold(verb: str) -> None:
        polling.set()
        assert go_on.wait(10)

    house.link.before = hold
    thread = threading.Thread(target=house.coordinator.should_fetch)
    thread.start()
    assert polling.wait(10)
    house.link.before = lambda _verb: None

    def report() -> list[object]:
        return [house.coordinator.should_fetch(), house.coordinator.definitions()]

    try:
        assert in_child(report) == [False, content(1)]
    finally:
        go_on.set()
        thread.join(10)


def test_a_fork_that_ran_no_hook_is_noticed_all_the_same(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that fork in C run none: the process's number tells."""
    bring(house)
    parent = house.coordinator.status()
    monkeypatch.setattr(os, "getpid", lambda: parent.pid + 1)
    child = house.coordinator.status()
    assert child.worker != parent.worker
    assert (child.version, child.role) == (parent.version, Role.NEW)
    assert house.coordinator.definitions() == content(1)


def test_a_grandchild_that_never_asked_still_holds_what_was_held(house: House) -> None:
    """A server's master forks a child that forks workers."""
    bring(house)

    def report() -> list[object]:
        return in_child(lambda: [house.coordinator.definitions()])

    assert in_child(report) == [content(1)]


def test_many_threads_of_a_new_process_make_one_worker(house: House) -> None:
    """Whoever is first; the others take that one."""
    workers: set[str] = set()
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait(10)
        workers.add(house.coordinator.status().worker)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(workers) == 1


def test_leaving_hands_the_lease_over(house: House, fleet: Fleet) -> None:
    """What happens at exit."""
    bring(house)
    house.coordinator.leave()
    assert fleet.store.inspect().leader == ""


def test_a_child_that_leaves_takes_nothing_from_its_parent(house: House, fleet: Fleet) -> None:
    """Neither its lease nor its connections."""
    bring(house)

    def report() -> list[object]:
        house.coordinator.shutdown()
        house.coordinator.status()
        house.coordinator.shutdown()
        return [house.link.calls.count("release"), fleet.store.inspect().leader != ""]

    assert in_child(report) == [0, True]


def test_an_unused_one_leaves_without_asking_anybody(house: House) -> None:
    """Nothing is opened to say goodbye."""
    house.coordinator.shutdown()
    assert house.link.opened == 0

