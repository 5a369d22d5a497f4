"""Noise from a writer, a publisher and another tenant: deleted and invalid fields, floods of notices, large values."""

from __future__ import annotations

import pytest

from tests.support.attacked_fleet import KINDS, Attack, AttackCost, attacked_fleet
from tests.support.keyless_writes import delete_a_field, flood, plant, spoil_a_field
from tests.support.servers import MakeRedis, RedisServer

WATCHED = 6.0
"""Seconds: fifteen refresh intervals."""

each_kind = pytest.mark.parametrize("kind", KINDS)


def _harmless(redis_server: RedisServer, namespace: str, kind: str, attack: Attack) -> AttackCost:
    """Repeat an attack: no flag is wrong or lost, no store fails, and a change arrives."""
    with attacked_fleet(redis_server, namespace, kind) as fleet:
        cost = fleet.run_attack(attack, times=60, seconds=WATCHED, change=True)
    assert not cost.harm
    assert cost.failures == 0
    assert cost.caught_up is not None
    return cost


@each_kind
def test_fields_that_are_deleted_one_by_one_take_no_flag(redis_server: RedisServer, namespace: str, kind: str) -> None:
    """Each field of the hash is deleted in turn; the fleet gets the change, and keeps its flags."""
    _harmless(redis_server, namespace, kind, delete_a_field())


@each_kind
def test_fields_that_make_no_sense_take_no_flag(redis_server: RedisServer, namespace: str, kind: str) -> None:
    """A field that is empty, negative, too high, not a number, too long or with control characters takes no flag."""
    _harmless(redis_server, namespace, kind, spoil_a_field())


@each_kind
def test_floods_of_notices_take_no_flag(redis_server: RedisServer, namespace: str, kind: str) -> None:
    """Forty notices a second of each kind: a change arrives in about two intervals, with few polls and fetches."""
    cost = _harmless(redis_server, namespace, kind, flood)
    assert cost.requests <= cost.intervals + 2
    assert cost.requests >= cost.intervals / 3
    assert cost.sent < 130_000


@pytest.mark.parametrize("times", [1, 10], ids=["one write", "ten writes"])
@each_kind
def test_a_large_value_costs_other_tenants_nothing(
    make_redis: MakeRedis, namespace: str, kind: str, times: int
) -> None:
    """A value larger than any payload is never sent, so the server has time for its other clients."""
    with attacked_fleet(make_redis(), namespace, kind) as fleet:
        cost = fleet.run_attack(plant(70_000_000), times=times, seconds=WATCHED, change=True)
    assert not cost.harm
    assert cost.failures == 0
    assert cost.sent < 1_000_000
    assert cost.caught_up is not None
