"""When a process saves what it holds to the fallback file, and what it writes there."""

from __future__ import annotations

import pytest

from flagcache.core.last_known_good import Copy, Key, Saved, Write, delay, is_saved, next_write, saves_at_once
from flagcache.core.order import Held
from flagcache.stores.base import Meta

STALE_AFTER = 10.0
META = Meta("v", 2, 5_000, 4_000, 4_500, project="team=1")
HELD = Held(META, {}, "redis", 100.0)


def copy(born: float, *, version: str = "v", epoch: int = 2, project: str = "team=1", key: Key = Key.CURRENT) -> Copy:
    """A copy in the file, granted at this time of the process's clock."""
    return Copy(Meta(version, epoch, 3_000, 3_000, 3_000, project=project), born, key)


def test_the_first_definitions_are_saved_at_once() -> None:
    """A process may end or fork before its thread saves them. Without a thread that is so for all definitions."""
    assert saves_at_once(Saved(), later=True)
    assert saves_at_once(Saved(tried=True), later=False)
    assert not saves_at_once(Saved(tried=True), later=True)


def test_later_ones_are_saved_after_one_to_two_seconds() -> None:
    """The processes of a machine spread over this time."""
    assert (delay(0.0), delay(0.25), delay(1.0)) == (1.0, 1.25, 2.0)


def test_a_process_asks_the_file_only_for_another_version_or_much_younger_times() -> None:
    """What it knows of the file is enough otherwise."""
    assert is_saved(Saved("v", 90.1), HELD, STALE_AFTER)
    assert not is_saved(Saved("v", 90.0), HELD, STALE_AFTER)
    assert not is_saved(Saved("u", 100.0), HELD, STALE_AFTER)
    assert not is_saved(Saved(), HELD, STALE_AFTER)


def test_an_empty_file_is_filled() -> None:
    """With the times of its own clock."""
    assert next_write(HELD, META, None, STALE_AFTER) == Write(META, born=100.0)


def test_an_older_version_is_replaced() -> None:
    """Whatever its order says: its epoch may be lost, and its time in the future."""
    assert next_write(HELD, META, copy(99.0, version="u"), STALE_AFTER) == Write(META, born=100.0)
    ahead = Copy(Meta("u", 7, 9_000, 9_000, 9_000), 99.0)
    assert next_write(HELD, META, ahead, STALE_AFTER) == Write(META._replace(epoch=7, as_of=9_001), born=100.0)


@pytest.mark.parametrize("born", [100.0, 101.0])
def test_a_younger_version_stays(born: float) -> None:
    """The next poll brings it."""
    assert next_write(HELD, META, copy(born, version="u"), STALE_AFTER) == Write()


def test_the_same_version_needs_only_its_times_and_only_if_they_are_old() -> None:
    """So an unchanged version is written about as often as it would become stale."""
    assert next_write(HELD, META, copy(90.1), STALE_AFTER) == Write(born=90.1)
    assert next_write(HELD, META, copy(90.0), STALE_AFTER) == Write(META, times_only=True, born=100.0)
    assert next_write(HELD, META, copy(120.0), STALE_AFTER) == Write(born=120.0)


@pytest.mark.parametrize(
    "outdated", [copy(99.0, key=Key.OUTDATED), copy(99.0, epoch=1), copy(99.0, project="team=1 key=old")]
)
def test_a_young_copy_that_this_process_would_not_write_so_is_written_anew(outdated: Copy) -> None:
    """Its key is being replaced, it is of an earlier epoch, or the project has another name now."""
    assert next_write(HELD, META, outdated, STALE_AFTER) == Write(META, born=100.0)


def test_a_copy_with_another_name_of_the_project_stays_if_it_is_younger() -> None:
    """The process that wrote it may know more."""
    renamed = copy(101.0, project="team=1 key=new")
    assert next_write(HELD, META, renamed, STALE_AFTER) == Write(born=101.0)


def test_what_is_written_anew_never_becomes_older() -> None:
    """A younger copy keeps its times, and the order after its own."""
    write = next_write(
        HELD, META, Copy(META._replace(as_of=8_000, confirmed_at=7_500), 103.0, Key.OUTDATED), STALE_AFTER
    )
    assert write == Write(META._replace(as_of=8_001, confirmed_at=7_500), born=103.0)


def test_a_copy_whose_key_this_process_lacks_is_left_to_those_that_have_it() -> None:
    """Unless it is stale or cleared. If both sides of a rotation renewed it, they would write without end."""
    assert next_write(HELD, META, copy(90.1, key=Key.LACKING), STALE_AFTER) == Write(born=90.1)
    assert next_write(HELD, META, copy(90.0, key=Key.LACKING), STALE_AFTER) == Write(META, born=100.0)
    assert next_write(HELD, META, copy(99.0, key=Key.LACKING, epoch=1), STALE_AFTER) == Write(META, born=100.0)
