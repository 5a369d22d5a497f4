"""One cache and its status: it raises no exception, whatever happens inside."""

from __future__ import annotations

import json
import os

import pytest

from flagcache.encoding.payload import digest, encode
from flagcache.runtime.log_prefix import process_name
from flagcache.settings import Settings
from flagcache.status import Role, Serving, State, Status
from tests.support.in_process_cache import InProcessCache, fetch
from tests.support.in_process_fleet import FLEET, OWN, Fleet, content, in_thread


@pytest.fixture
def fleet() -> Fleet:
    """An empty store."""
    return Fleet()


@pytest.fixture
def cache(fleet: Fleet) -> InProcessCache:
    """A cache that was not asked yet."""
    return InProcessCache(fleet)


# --- status -----------------------------------------------------------------------------------------------------------


def test_to_make_one_and_to_look_at_it_asks_nobody(cache: InProcessCache) -> None:
    """Nothing is opened before the first question."""
    status = cache.coordinator.status()
    assert status == Status(
        role=Role.NEW,
        state=State.EMPTY,
        namespace="team",
        store=FLEET,
        store_answers=True,
        store_in_charge=FLEET,
        worker=status.worker,
        pid=os.getpid(),
        version="",
        age=None,
        changed_age=None,
        confirmed_at=None,
        changed_at=None,
        writer="",
        fetches=0,
        full_fetches=0,
        flags=0,
        serving=Serving.NONE,
        trouble="",
        trouble_since=None,
        leader="",
        listening=False,
    )
    assert cache.link.opened == 0


def test_the_status_has_role_version_and_age() -> None:
    """The status has the role of a leader and of a follower; the age is the grant's."""
    fleet = Fleet(Settings(refresh_interval=30, cold_start_wait=20))
    cache, follower = InProcessCache(fleet), InProcessCache(fleet)
    assert cache.coordinator.should_fetch() is True
    fleet.clock.advance(4)
    cache.coordinator.received(content(1))
    follower.coordinator.should_fetch()
    for role, each in ((Role.LEADER, cache), (Role.FOLLOWER, follower)):
        status = each.coordinator.status()
        assert (status.role, status.state, status.writer) == (role, State.FRESH, "test/1")
        assert status.age == pytest.approx(4)
        assert status.changed_age == pytest.approx(4)
        assert status.version


def test_what_nobody_confirmed_for_long_is_stale(cache: InProcessCache, fleet: Fleet) -> None:
    """Definitions that were not confirmed are stale after `stale_after`, and not before."""
    fetch(cache)
    fleet.clock.advance(cache.config.stale_after)
    assert cache.coordinator.status().state is State.FRESH
    fleet.clock.advance(0.1)
    assert cache.coordinator.status().state is State.STALE


def test_a_confirmation_moves_the_age_and_not_the_changed_age(cache: InProcessCache, fleet: Fleet) -> None:
    """The content is as old as before."""
    fetch(cache)
    fleet.next_interval()
    fetch(cache)
    fleet.clock.advance(1)
    cache.coordinator.should_fetch()
    status = cache.coordinator.status()
    assert status.age == pytest.approx(1)
    assert status.changed_age == pytest.approx(31)


def test_the_status_says_that_the_store_is_away(cache: InProcessCache, fleet: Fleet) -> None:
    """The status names the store that coordinates instead: this process's own, on which it leads."""
    fetch(cache)
    cache.link.cut = True
    cache.coordinator.should_fetch()
    status = cache.coordinator.status()
    assert (status.store_answers, status.role) == (False, Role.LEADER)
    assert status.store_in_charge == OWN


def test_the_status_is_plain_json(cache: InProcessCache) -> None:
    """The status can be JSON, for a health page."""
    fetch(cache)
    status = json.loads(json.dumps(cache.coordinator.status().as_dict(), allow_nan=False))
    assert (status["role"], status["state"], status["namespace"]) == ("leader", "fresh", "team")


# --- never an exception -----------------------------------------------------------------------------------------------


class UnforeseenError(Exception):
    """An unexpected exception."""


@pytest.fixture
def broken(cache: InProcessCache) -> InProcessCache:
    """A cache whose store raises what a store must not."""
    fetch(cache)

    def fail(verb: str) -> None:
        raise UnforeseenError(verb)

    cache.link.before = fail
    return cache


def test_a_bug_never_gets_out(broken: InProcessCache, caplog: pytest.LogCaptureFixture) -> None:
    """With definitions in memory the failure sends no thread to fetch, and they are returned; it is logged."""
    assert broken.coordinator.should_fetch() is False
    assert broken.coordinator.definitions() == content(1)
    broken.coordinator.received(content(2))
    broken.coordinator.shutdown()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        f"flagcache[team] {process_name()}: deciding who fetches failed",
        f"flagcache[team] {process_name()}: leaving the fleet failed",
    ]


def test_with_nothing_held_a_bug_sends_to_fetch(cache: InProcessCache) -> None:
    """The SDK fetches then, which is better than an empty answer."""

    def fail(verb: str) -> None:
        raise UnforeseenError(verb)

    cache.link.before = fail
    assert cache.coordinator.should_fetch() is True


@pytest.mark.parametrize("wrong", [None, [], {}, {"flags": None}])
def test_malformed_definitions_are_logged_and_dropped(
    cache: InProcessCache, wrong: object, caplog: pytest.LogCaptureFixture
) -> None:
    """What is held stays."""
    fetch(cache)
    cache.coordinator.received(wrong)
    assert cache.coordinator.definitions() == content(1)
    assert f"flagcache[team] {process_name()}: sharing definitions failed" in caplog.text


def test_an_interruption_is_not_swallowed(cache: InProcessCache) -> None:
    """`SystemExit` and its like are not ours to catch."""

    def leave(verb: str) -> None:
        raise SystemExit(3)

    cache.link.before = leave
    with pytest.raises(SystemExit):
        cache.coordinator.should_fetch()
    cache.link.before = lambda _verb: None
    assert in_thread(cache.coordinator.should_fetch) is True


# --- what is not ours -------------------------------------------------------------------------------------------------


def test_a_worker_of_another_project_is_no_healthy_follower(cache: InProcessCache, fleet: Fleet) -> None:
    """It shares nothing, says so, and names neither the fleet's store nor its leader as its own; it becomes ready."""
    fleet.upstream.serves = content(1, project="ours")
    assert cache.coordinator.should_fetch() is True
    cache.coordinator.received(content(1, project="ours"))
    fleet.clock.advance(5)
    theirs = content(9, project="theirs")
    fleet.plant(encode(theirs, digest(theirs)), version=digest(theirs), project="theirs")
    for _ in range(3):
        fleet.next_interval()
        cache.coordinator.should_fetch()
        cache.coordinator.received(content(2, project="ours"))
    status = cache.coordinator.status()
    assert (status.role, status.trouble, status.store_in_charge) == (Role.ALONE, "foreign_project", OWN)
    assert (status.leader, status.serving, status.flags) == (status.worker, Serving.ALL, 1)
    assert cache.coordinator.ready()
    fleet.store.clear()
    cache.coordinator.should_fetch()
    assert cache.coordinator.status().trouble == ""
    assert cache.coordinator.status().role is not Role.ALONE
