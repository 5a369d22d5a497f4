"""A writer without a key forges claims: old is new, all is well, the quota is used up, the store was cleared."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import pytest

from flagcache.stores.redis.store import RedisStore
from tests.support.attacked_fleet import KINDS, KINDS_WITH_A_KEY, Attack, AttackCost, attacked_fleet
from tests.support.keyless_writes import (
    forge_the_epoch,
    freeze,
    lead_an_empty_store,
    note,
    replay,
    roll_back,
    spoil_the_epoch,
)
from tests.support.servers import RedisServer, until

WATCHED = 6.0
"""Seconds: fifteen refresh intervals, three times `stale_after`."""

LONGEST_OUTAGE = 5.0
"""Seconds: `stale_after`, and the two seconds after which a leader that made no fetch is replaced."""

MANY = 120
"""Writes, three for each poll of a worker."""

each_kind = pytest.mark.parametrize("kind", KINDS)
each_key = pytest.mark.parametrize("kind", KINDS_WITH_A_KEY)
once_and_often = pytest.mark.parametrize("times", [1, MANY], ids=["one write", "many writes"])


def _assert_change_arrived(cost: AttackCost) -> None:
    assert not cost.harm
    assert cost.caught_up is not None
    assert cost.caught_up < LONGEST_OUTAGE


@once_and_often
@each_key
def test_an_old_envelope_brings_no_old_flag_back(
    redis_server: RedisServer, namespace: str, kind: str, times: int
) -> None:
    """With a key, definitions from before a change never replace those after it, however often they are written."""
    with attacked_fleet(redis_server, namespace, kind) as fleet:
        cost = fleet.run_attack(roll_back, times=times, seconds=WATCHED, change=True)
    _assert_change_arrived(cost)


@pytest.mark.slow
@pytest.mark.parametrize("attack", [replay, roll_back])
@each_key
def test_what_the_old_key_protected_is_not_fresh_while_keys_are_rotated(
    redis_server: RedisServer, namespace: str, kind: str, attack: Attack
) -> None:
    """An attacker keeps writing what the old key protected: no flag goes back or is lost, and no age is too low."""
    with attacked_fleet(redis_server, namespace, kind) as fleet:
        cost = fleet.rotate_keys(attack)
    assert (cost.wrong, cost.lost, cost.false_fresh) == (set(), 0, 0)


def test_an_old_envelope_brings_old_flags_back_without_a_key(redis_server: RedisServer, namespace: str) -> None:
    """A plain fleet uses old definitions as new ones, and loses no flag."""
    with attacked_fleet(redis_server, namespace, "plain") as fleet:
        cost = fleet.run_attack(roll_back, times=1, seconds=WATCHED)
    assert (cost.wrong, cost.lost) == ({1}, 0)


@once_and_often
@each_key
def test_a_frozen_store_is_not_called_fresh(redis_server: RedisServer, namespace: str, kind: str, times: int) -> None:
    """With a key, a change arrives although the store claims a leader and a fresh confirmation; no age is too low."""
    with attacked_fleet(redis_server, namespace, kind) as fleet:
        cost = fleet.run_attack(freeze, times=times, seconds=WATCHED, change=True)
    _assert_change_arrived(cost)


def test_a_frozen_store_is_called_fresh_without_a_key(redis_server: RedisServer, namespace: str) -> None:
    """A plain fleet believes the store while the attack lasts, keeps its flags, and recovers afterwards."""
    with attacked_fleet(redis_server, namespace, "plain") as fleet:
        cost = fleet.run_attack(freeze, times=MANY, seconds=WATCHED, change=True)
    assert (cost.wrong, cost.lost, cost.caught_up) == (set(), 0, None)
    assert cost.false_fresh > 0


@once_and_often
@each_key
@pytest.mark.parametrize("status", [402, 503])
def test_a_forged_note_is_not_believed(
    redis_server: RedisServer, namespace: str, kind: str, status: int, times: int
) -> None:
    """With a key, a note that is not signed takes no flag, and keeps the fleet from no change."""
    with attacked_fleet(redis_server, namespace, kind) as fleet:
        cost = fleet.run_attack(note(status, seconds=3600), times=times, seconds=WATCHED, change=True)
    _assert_change_arrived(cost)


def test_a_forged_note_takes_the_flags_without_a_key(redis_server: RedisServer, namespace: str) -> None:
    """A plain fleet believes a forged note, and has its flags again when the note has expired."""
    with attacked_fleet(redis_server, namespace, "plain") as fleet:
        cost = fleet.run_attack(note(402, seconds=1), times=1, seconds=WATCHED)
    assert cost.wrong == set()
    assert cost.lost > 0


@once_and_often
@each_kind
def test_a_forged_epoch_takes_no_flag(redis_server: RedisServer, namespace: str, kind: str, times: int) -> None:
    """Whatever the protection, a forged epoch costs fetches within the limit, and no flag."""
    with attacked_fleet(redis_server, namespace, kind) as fleet:
        cost = fleet.run_attack(forge_the_epoch, times=times, seconds=WATCHED, change=True)
    _assert_change_arrived(cost)
    assert cost.failures == 0


@pytest.mark.parametrize("attack", [forge_the_epoch, spoil_the_epoch])
def test_clear_works_after_a_forged_epoch(redis_server: RedisServer, namespace: str, attack: Attack) -> None:
    """Each `clear` raises the epoch further, and the fleet fetches again, also without a key."""
    with (
        attacked_fleet(redis_server, namespace, "plain") as fleet,
        closing(RedisStore(redis_server.url, namespace)) as store,
    ):
        fleet.write(attack)
        fleet.change()
        fleet.wait_until_settled(within=LONGEST_OUTAGE)
        for _ in range(3):
            before, epoch = fleet.full_fetches, store.clear()
            until(partial(fleet.fetched_since, before), LONGEST_OUTAGE, what="a fetch without a tag")
            until(lambda: store.inspect().meta, LONGEST_OUTAGE, what="the new definitions")
            assert store.inspect().epoch == epoch


@once_and_often
@each_kind
def test_a_lease_of_nobody_on_an_emptied_store_takes_no_flag(
    redis_server: RedisServer, namespace: str, kind: str, times: int
) -> None:
    """Whatever the protection, running workers keep their flags while the store is empty and has a forged lease."""
    with attacked_fleet(redis_server, namespace, kind) as fleet:
        cost = fleet.run_attack(lead_an_empty_store, times=times, seconds=WATCHED, change=True)
    assert not cost.harm
    if times == 1:
        _assert_change_arrived(cost)
