"""One cache in many processes: each has its own worker, without a call by the user."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from typing import cast

import pytest

from flagcache.status import Role
from flagcache.worker.fetch_limit import MAX_FETCHES
from tests.support.in_process_attacker import grant_again
from tests.support.in_process_cache import InProcessCache, fetch
from tests.support.in_process_fleet import Fleet, content


@pytest.fixture
def fleet() -> Fleet:
    """An empty store."""
    return Fleet()


@pytest.fixture
def cache(fleet: Fleet) -> InProcessCache:
    """A cache that was not asked yet."""
    return InProcessCache(fleet)


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
        output = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return cast("list[object]", json.loads(output))


def test_a_child_goes_on_as_another_process(cache: InProcessCache) -> None:
    """A child holds what its parent held, under its own identity, and does not lead."""
    fetch(cache)
    parent = cache.coordinator.status()

    def report() -> list[object]:
        status = cache.coordinator.status()
        return [status.pid, status.worker, status.version, status.role.value, cache.coordinator.definitions()]

    pid, worker, *rest = in_child(report)
    assert pid != parent.pid
    assert worker != parent.worker
    assert f":{pid}:" in str(worker)
    assert rest == [parent.version, "new", content(1)]


def test_a_child_contends_for_the_lease_like_anybody(cache: InProcessCache) -> None:
    """A child may take the lease like any other process; the parent keeps its role."""
    fetch(cache)
    assert in_child(lambda: [cache.coordinator.should_fetch()]) == [False]
    assert cache.coordinator.status().role is Role.LEADER


def test_a_fork_while_a_poll_is_under_way_does_not_hang_the_child(cache: InProcessCache) -> None:
    """No lock and no wait of the parent's other threads is inherited."""
    fetch(cache)
    polling, go_on = threading.Event(), threading.Event()

    def hold(verb: str) -> None:
        polling.set()
        assert go_on.wait(10)

    cache.link.before = hold
    thread = threading.Thread(target=cache.coordinator.should_fetch)
    thread.start()
    assert polling.wait(10)
    cache.link.before = lambda _verb: None

    def report() -> list[object]:
        return [cache.coordinator.should_fetch(), cache.coordinator.definitions()]

    try:
        assert in_child(report) == [False, content(1)]
    finally:
        go_on.set()
        thread.join(10)


def test_a_fork_that_ran_no_hook_is_noticed_all_the_same(
    cache: InProcessCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers that fork in C run no hooks; the pid shows the fork."""
    fetch(cache)
    parent = cache.coordinator.status()
    monkeypatch.setattr(os, "getpid", lambda: parent.pid + 1)
    child = cache.coordinator.status()
    assert child.worker != parent.worker
    assert (child.version, child.role) == (parent.version, Role.NEW)
    assert cache.coordinator.definitions() == content(1)


def test_a_grandchild_that_never_asked_still_holds_what_was_held(cache: InProcessCache) -> None:
    """A grandchild holds the definitions, as if a server's master forks a child that forks workers."""
    fetch(cache)

    def report() -> list[object]:
        return in_child(lambda: [cache.coordinator.definitions()])

    assert in_child(report) == [content(1)]


def test_many_threads_of_a_new_process_make_one_worker(cache: InProcessCache) -> None:
    """The first one is used; the others take it."""
    workers: set[str] = set()
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait(10)
        workers.add(cache.coordinator.status().worker)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(workers) == 1


def test_leaving_hands_the_lease_over(cache: InProcessCache, fleet: Fleet) -> None:
    """Leaving, as at exit, hands over the lease."""
    fetch(cache)
    cache.coordinator.leave()
    assert fleet.store.inspect().leader == ""


def test_a_child_that_leaves_takes_nothing_from_its_parent(cache: InProcessCache, fleet: Fleet) -> None:
    """A child takes neither its parent's lease nor its connections."""
    fetch(cache)

    def report() -> list[object]:
        cache.coordinator.shutdown()
        cache.coordinator.status()
        cache.coordinator.shutdown()
        return [cache.link.calls.count("release"), fleet.store.inspect().leader != ""]

    assert in_child(report) == [0, True]


def test_an_unused_one_leaves_without_asking_anybody(cache: InProcessCache) -> None:
    """A cache that was never used opens nothing when it leaves."""
    cache.coordinator.shutdown()
    assert cache.link.opened == 0


def test_a_child_limits_its_own_fetches(cache: InProcessCache, fleet: Fleet) -> None:
    """A child's limit of fetches in an interval doesn't count its parent's, nor the parent's its child's."""

    def fetches() -> int:
        made = 0
        for number in range(2 * MAX_FETCHES):
            grant_again(fleet)
            if cache.coordinator.should_fetch():
                cache.coordinator.received(content(number))
                made += 1
        return made

    assert fetches() == MAX_FETCHES
    assert in_child(lambda: [fetches()]) == [MAX_FETCHES]
    assert fetches() == 0
