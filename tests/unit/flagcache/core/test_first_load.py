"""What a first load waits for, and when that is useless: pure decisions."""

from __future__ import annotations

from itertools import pairwise

import pytest

from flagcache.core import first_load
from flagcache.core.knowledge import Held, Knowledge, StoreView
from flagcache.core.notes import Note
from flagcache.settings import Settings
from flagcache.stores.base import Grant, Meta, Reply

HOME = "redis://a/0"
NOW = 5000.0
CLOCK = 1_700_000_000_000
SETTINGS = Settings(refresh_interval=30)
GRANT = Grant(0, CLOCK, CLOCK)


def meta(age: float) -> Meta:
    """Definitions that were confirmed this many seconds ago."""
    at = CLOCK - round(age * 1000)
    return Meta("v1", 0, at, changed_at=at, confirmed_at=at)


def knowing(age: float, *, fetching: bool = False) -> Knowledge:
    """A process that holds what was confirmed this many seconds ago, and whether another one fetches."""
    held = Held(meta(age), {"flags": [1]}, HOME, NOW - age)
    return Knowledge(
        held=held, waiting_since=NOW, views={HOME: StoreView(replied_at=NOW, lease_ends=NOW, fetching=fetching)}
    )


def test_a_first_load_is_over_with_the_first_definitions_handed_out() -> None:
    """And there is none in a child of a process that held definitions."""
    assert first_load.is_first_load(knowing(1))
    assert not first_load.is_first_load(knowing(1)._replace(loaded=True))
    assert not first_load.is_first_load(knowing(1).in_child())


def test_it_starts_with_what_is_young_enough() -> None:
    """Up to the age given, its end included; with nothing it cannot start."""
    assert first_load.may_start_with(knowing(45), 45, NOW, asked_at=NOW)
    assert not first_load.may_start_with(knowing(45.1), 45, NOW, asked_at=NOW)
    assert not first_load.may_start_with(Knowledge(), 45, NOW, asked_at=NOW)


def test_it_starts_with_what_was_granted_since() -> None:
    """A load that wants nothing older than itself takes the fetch that was granted after it began."""
    assert first_load.may_start_with(knowing(3), 0, NOW, asked_at=NOW - 3)
    assert not first_load.may_start_with(knowing(3), 0, NOW, asked_at=NOW - 2.9)


def test_a_process_has_one_wait_until_its_first_load_is_over() -> None:
    """It counts from a store's first empty reply, or if none came, from the load. Later loads count for themselves."""
    settings = Settings(cold_start_wait=7)
    assert first_load.ends_at(Knowledge(), settings, NOW + 2) == NOW + 9
    waiting = Knowledge(waiting_since=NOW)
    assert first_load.ends_at(waiting, settings, NOW + 2) == NOW + 7
    assert first_load.ends_at(waiting._replace(loaded=True), settings, NOW + 2) == NOW + 7
    assert first_load.ends_at(knowing(100), settings, NOW + 2) == NOW + 7
    assert first_load.ends_at(knowing(100)._replace(loaded=True), settings, NOW + 2) == NOW + 9


def test_a_wait_contends_unless_its_thread_could_not_use_a_grant() -> None:
    """An SDK fetches on the thread that waits. Without definitions that thread stops waiting and fetches."""
    assert first_load.contends(knowing(100), can_fetch=True)
    assert not first_load.contends(knowing(100), can_fetch=False)
    assert first_load.contends(Knowledge(), can_fetch=False)


def test_the_pauses_of_a_wait_grow_to_half_a_second() -> None:
    """The first is ten milliseconds. Jitter adds at most that much to each."""
    pauses = [first_load.pause(polls, 0.0) for polls in range(1, 101)]
    assert pauses[0] == 0.01
    assert all(after == pytest.approx(min(0.5, 1.25 * before)) for before, after in pairwise(pauses))
    assert pauses[-1] == 0.5
    assert first_load.pause(3, 1.0) == pytest.approx(pauses[2] + 0.01)


def test_a_wait_may_last_for_days() -> None:
    """A pause after millions of polls is no overflow."""
    assert first_load.pause(5_000_000, 0.0) == 0.5


def test_it_waits_for_a_fetch_under_way() -> None:
    """A first load waits for its own or another process's fetch, and otherwise for nothing."""
    assert first_load.waits_for_newer(knowing(100), HOME, fetching=True)
    assert first_load.waits_for_newer(knowing(100, fetching=True), HOME, fetching=False)
    assert not first_load.waits_for_newer(knowing(100), HOME, fetching=False)


def test_a_failure_ends_the_wait_for_newer_ones() -> None:
    """Its own, or one that is noted for all."""
    know = knowing(100, fetching=True)
    assert not first_load.waits_for_newer(know._replace(failures=1), HOME, fetching=True)
    assert not first_load.waits_for_newer(know._replace(backoff=Note(500)), HOME, fetching=False)


def test_a_grant_that_comes_with_young_definitions_is_left() -> None:
    """And not counted as a fetch; one that comes with old ones, or with none, is used."""
    reply = Reply(CLOCK, leads=True, lease_left=1, granted_at=CLOCK, grant=GRANT, meta=meta(45))
    assert first_load.defer_grant(reply, SETTINGS) == (reply._replace(grant=None, granted_at=0), True)
    for used in (reply._replace(meta=meta(45.1)), reply._replace(meta=None), reply._replace(grant=None)):
        assert first_load.defer_grant(used, SETTINGS) == (used, False)


def test_a_refusal_is_final_if_nobody_leads() -> None:
    """Once those that wait too had time to look again; not while another leads, nor when it may try again itself."""
    refused = Knowledge(
        failures=1,
        failed_at=NOW - 0.1,
        stay_out_until=NOW + 5,
        views={HOME: StoreView(replied_at=NOW, lease_ends=NOW)},
    )
    assert first_load.nothing_to_wait_for(refused, HOME, NOW, NOW + 10)
    assert not first_load.nothing_to_wait_for(refused._replace(failed_at=NOW - 0.05), HOME, NOW, NOW + 10)
    assert not first_load.nothing_to_wait_for(refused._replace(stay_out_until=NOW - 1), HOME, NOW, NOW + 10)
    led = refused.with_view(HOME, StoreView(replied_at=NOW, lease_ends=NOW + 3))
    assert not first_load.nothing_to_wait_for(led, HOME, NOW, NOW + 10)
    assert not first_load.nothing_to_wait_for(Knowledge(), HOME, NOW, NOW + 10)


def test_nobody_waits_when_no_try_is_left() -> None:
    """Or when the vendor refuses all."""
    assert first_load.nothing_to_wait_for(Knowledge(views={HOME: StoreView(exhausted=True)}), HOME, NOW, NOW + 10)
    assert first_load.nothing_to_wait_for(Knowledge(backoff=Note(429)), HOME, NOW, NOW + 10)


def test_a_passing_failure_is_waited_for() -> None:
    """If the next try comes within the wait; not a decision of the vendor, nor the last try of an interval."""
    failed = Knowledge(backoff=Note(500, NOW + 5), views={HOME: StoreView(replied_at=NOW, lease_ends=NOW + 3)})
    assert not first_load.nothing_to_wait_for(failed, HOME, NOW, NOW + 10)
    assert first_load.nothing_to_wait_for(failed, HOME, NOW, NOW + 4)
    assert first_load.nothing_to_wait_for(failed._replace(backoff=Note(402, NOW + 5)), HOME, NOW, NOW + 10)
    last = failed.with_view(HOME, StoreView(replied_at=NOW, lease_ends=NOW + 3, exhausted=True))
    assert first_load.nothing_to_wait_for(last, HOME, NOW, NOW + 10)
