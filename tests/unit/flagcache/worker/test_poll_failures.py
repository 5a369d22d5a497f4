"""A store that fails once, at any verb and at any moment, does no harm."""

from __future__ import annotations

from collections import Counter

import pytest

from flagcache.errors import FlagcacheError, MissingExtraError
from flagcache.events import Events, StoreLost
from flagcache.settings import Settings
from flagcache.stores.base import Store
from flagcache.stores.memory import MemoryStore
from flagcache.stores.spec import StoreSpec
from flagcache.vendor import Definitions
from flagcache.worker.config import CacheConfig
from flagcache.worker.worker import Worker
from tests.support.in_process_fleet import FLEET, OWN, Clock, Fleet, ManualVendor, Process, content

NO_FLAGS: Definitions = {"flags": []}


def live_through(fleet: Fleet, troubled: Process, other: Process) -> None:
    """All that may happen to two processes; from its first flags on, each must have some."""

    def poll() -> None:
        for process in (troubled, other):
            had_flags = process.flags not in (None, NO_FLAGS)
            process.poll()
            assert process.flags != NO_FLAGS or not had_flags, "a process has lost its flags"
        fleet.clock.advance(fleet.settings.refresh_interval / 3)

    for _ in range(4):  # a cold start, a fetch that finds nothing new, a change
        poll()
    fleet.upstream.serves = content(2)
    for _ in range(4):
        poll()
    fleet.plant(b"garbage")  # which is discarded and repaired
    for _ in range(4):
        poll()
    troubled.link.store = other.link.store = fleet.store = MemoryStore(fleet.store_clock)  # flushed
    for _ in range(3):
        poll()
    troubled.worker.shutdown()
    other.worker.shutdown()
    fleet.clock.advance(fleet.settings.lease_for())
    for _ in range(3):
        poll()


def verbs_of_a_quiet_life() -> list[str]:
    """The calls of the troubled process while nothing goes wrong."""
    fleet = Fleet()
    troubled, other = fleet.process(), fleet.process()
    live_through(fleet, troubled, other)
    return troubled.link.calls


VERBS = verbs_of_a_quiet_life()


def test_the_life_has_every_verb_in_it() -> None:
    """The life of the two processes has every verb; the cases below cut off each of these calls."""
    assert set(Counter(VERBS)) >= {"poll", "publish", "discard", "release"}


@pytest.mark.parametrize("lost", [False, True], ids=["not done", "done, and the answer lost"])
@pytest.mark.parametrize("at", range(1, len(VERBS) + 1))
def test_one_call_fails(at: int, *, lost: bool) -> None:
    """Whichever call it is: no method raises, no flag is lost, and in the end both hold what the vendor serves."""
    fleet = Fleet()
    troubled, other = fleet.process(), fleet.process()
    troubled.link.fail_at, troubled.link.fail_late = at, lost
    live_through(fleet, troubled, other)
    assert troubled.events(StoreLost)
    fleet.upstream.serves = content(3)
    for _ in range(8):
        troubled.poll()
        other.poll()
        fleet.clock.advance(fleet.settings.refresh_interval / 3)
    assert troubled.flags == other.flags == content(3)


@pytest.mark.parametrize("at", range(1, len(VERBS) + 1))
def test_all_calls_fail_from_one_on(at: int) -> None:
    """Whichever call is the first: the process continues by itself, with flags, and changes reach it."""
    fleet = Fleet()
    troubled, other = fleet.process(), fleet.process()

    def cut(verb: str) -> None:
        troubled.link.cut = len(troubled.link.calls) >= at

    troubled.link.before = cut
    live_through(fleet, troubled, other)
    fleet.upstream.serves = content(3)
    for _ in range(15):
        troubled.poll()
        fleet.clock.advance(fleet.settings.refresh_interval / 3)
    assert troubled.flags == content(3)


@pytest.mark.parametrize("error", [FlagcacheError("no"), MissingExtraError("no redis")])
def test_a_store_that_cannot_even_be_opened_is_away(error: FlagcacheError) -> None:
    """The next store takes over, and the failure is reported."""
    seen: list[object] = []
    events = Events()
    events.subscribe(seen.append)

    def fail() -> Store:
        raise error

    stores = (StoreSpec(FLEET, fail), StoreSpec(OWN, MemoryStore))
    worker = Worker(
        CacheConfig("fleet", Settings(), ManualVendor(), stores, events, Clock()), Fleet().process().worker.know
    )
    assert worker.should_fetch() is True
    assert isinstance(seen[0], StoreLost)
    worker.received(content(1))
    assert worker.definitions() == content(1)
    worker.shutdown()


def test_without_any_store_a_process_that_holds_nothing_answers_with_no_flags() -> None:
    """It can't be sent to fetch; it neither raises nor hangs."""

    def fail() -> Store:
        raise FlagcacheError("no")

    config = CacheConfig("fleet", Settings(), ManualVendor(), (StoreSpec(FLEET, fail),), Events(), Clock())
    worker = Worker(config, Fleet().process().worker.know)
    assert worker.should_fetch() is False
    assert worker.definitions() == NO_FLAGS
