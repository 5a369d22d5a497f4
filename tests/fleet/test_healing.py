from __future__ import annotations

import os
from collections.abc import Callable
from typing import cast

import pytest
import redis

from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.fleet_tasks import (
    all_hold,
    contexts,
    evaluated,
    history,
    in_order,
    leader,
    load,
    logs,
    never_lost_flags,
    revisions,
    status,
    trouble,
)
from tests.support.real_fleet import Fleet
from tests.support.servers import MakeRedis, until

EVERY = 0.5
LONG = 60.0
"""A refresh interval that no test outlives: not one request is due."""


class RedisKeys:
    """The keys of one namespace, read and damaged from outside."""

    def __init__(self, admin: redis.Redis, namespace: str) -> None:
        self.admin = admin
        self._namespace = namespace

    @property
    def keys(self) -> dict[str, str]:
        """Every key of the namespace, with its type."""
        found = cast("list[bytes]", self.admin.keys(f"*{self._namespace}*"))
        return {key.decode(): cast("bytes", self.admin.type(key)).decode() for key in found}

    @property
    def definitions(self) -> str:
        """The hash."""
        return next(key for key, kind in self.keys.items() if kind == "hash")

    @property
    def lease(self) -> str:
        """The string."""
        return next(key for key, kind in self.keys.items() if kind == "string")

    @property
    def payload(self) -> bytes | None:
        """The stored definitions."""
        return cast("bytes | None", self.admin.hget(self.definitions, "payload"))


def _random_fields(redis_keys: RedisKeys) -> None:
    for field in redis_keys.admin.hkeys(redis_keys.definitions):
        redis_keys.admin.hset(redis_keys.definitions, field, os.urandom(40))


def _odd_numbers(redis_keys: RedisKeys) -> None:
    odd = ["nan", "inf", "-1", "1e400", "9" * 30, "0x10", "1.5", ""]
    for place, field in enumerate(redis_keys.admin.hkeys(redis_keys.definitions)):
        redis_keys.admin.hset(redis_keys.definitions, field, odd[place % len(odd)])


def _largest_numbers(redis_keys: RedisKeys) -> None:
    for field, value in redis_keys.admin.hgetall(redis_keys.definitions).items():
        if value.isdigit():
            redis_keys.admin.hset(redis_keys.definitions, field, 2**53 - 1)


def _a_day_ahead(redis_keys: RedisKeys) -> None:
    for field, value in redis_keys.admin.hgetall(redis_keys.definitions).items():
        if value.isdigit() and int(value) > 10**12:
            redis_keys.admin.hset(redis_keys.definitions, field, int(value) + 86_400_000)


def _wrong_types(redis_keys: RedisKeys) -> None:
    for key, kind in redis_keys.keys.items():
        redis_keys.admin.delete(key)
        if kind == "hash":
            redis_keys.admin.set(key, os.urandom(100))
        else:
            redis_keys.admin.rpush(key, "not", "a", "lease")


def _lease_without_end(redis_keys: RedisKeys) -> None:
    redis_keys.admin.set(redis_keys.lease, os.urandom(20))


def _nothing_left(redis_keys: RedisKeys) -> None:
    redis_keys.admin.flushall()


GARBAGE: list[Callable[[RedisKeys], None]] = [
    _random_fields,
    _odd_numbers,
    _largest_numbers,
    _a_day_ahead,
    _wrong_types,
    _lease_without_end,
    _nothing_left,
]


def test_a_flushed_store_costs_nothing(posthog: StandInControl, make_redis: MakeRedis, namespace: str) -> None:
    """After FLUSHALL the holders republish at their next poll, and then five new workers boot without a request."""
    server = make_redis()
    redis_keys = RedisKeys(server.client(), namespace)
    with Fleet(contexts(posthog, server.url, namespace, every=LONG, poll_interval=EVERY), 4) as fleet:
        fleet.call(load)
        redis_keys.admin.flushall()
        until(lambda: len(redis_keys.keys) == 2 and redis_keys.payload, 3 * EVERY, what="the holders to republish")
        came = fleet.join(5)
        assert [member.call(load) for member in came] == [1] * 5
        assert posthog.requests == 1
        assert revisions(fleet) == {1}
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_a_fleet_survives_garbage_in_every_key(posthog: StandInControl, make_redis: MakeRedis, namespace: str) -> None:
    """Whatever is written into its keys, no worker loses a flag or gets older ones, and the next change reaches all."""
    server = make_redis()
    redis_keys = RedisKeys(server.client(), namespace)
    with Fleet(contexts(posthog, server.url, namespace, every=EVERY), 4) as fleet:
        fleet.call(load)
        for number, spoil in enumerate(GARBAGE, start=2):
            until(lambda: set(redis_keys.keys.values()) == {"hash", "string"}, 4 * EVERY, what="both keys")
            spoil(redis_keys)
            posthog.serve(make_definitions(5, revision=number))
            all_hold(fleet, number, within=8 * EVERY)
        truths = posthog.truths()
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
        assert all(in_order(each, truths) for each in fleet.call(history))
        late = fleet.join(1)[0]
        assert late.call(load) == len(GARBAGE) + 1
        assert late.call(evaluated) == f"r{len(GARBAGE) + 1}"


def _other_bytes(redis_keys: RedisKeys) -> None:
    redis_keys.admin.hset(redis_keys.definitions, "payload", os.urandom(len(redis_keys.payload or b"")))


def _cut_off(redis_keys: RedisKeys) -> None:
    redis_keys.admin.hset(redis_keys.definitions, "payload", (redis_keys.payload or b"")[:-20])


def _taken_away(redis_keys: RedisKeys) -> None:
    redis_keys.admin.hdel(redis_keys.definitions, "payload")


@pytest.mark.parametrize("spoil", [_other_bytes, _cut_off, _taken_away])
def test_a_payload_broken_alone_is_repaired(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, spoil: Callable[[RedisKeys], None]
) -> None:
    """If only the payload is broken, processes with definitions repair it: a new worker starts without a request."""
    server = make_redis()
    redis_keys = RedisKeys(server.client(), namespace)
    with Fleet(contexts(posthog, server.url, namespace, every=LONG, poll_interval=EVERY), 3) as fleet:
        fleet.call(load)
        whole = redis_keys.payload
        spoil(redis_keys)
        new = fleet.join(1)[0]
        assert new.call(load) == 1
        assert redis_keys.payload == whole
        assert posthog.requests == 1
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
        refused = [line for lines in fleet.call(logs) for line in lines if "unreadable" in line.text]
        assert len(refused) == (1 if spoil is _other_bytes else 0)


def test_a_fleet_outlives_its_redis(posthog: StandInControl, make_redis: MakeRedis, namespace: str) -> None:
    """Redis killed under a warm fleet costs no worker a flag; restarted empty, it makes them one fleet again."""
    server = make_redis()
    with Fleet(contexts(posthog, server.url, namespace, every=EVERY, store_timeout=0.3), 4) as fleet:
        fleet.call(load)
        server.kill()
        until(lambda: not any(each.store_answers for each in fleet.call(status)), 4 * EVERY, what="all to notice")
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=8 * EVERY)  # each asks PostHog for itself, more slowly

        server.start()
        until(lambda: all(each.store_answers for each in fleet.call(status)), 4 * EVERY, what="all to come back")
        leader(fleet)
        posthog.reset_counts()
        came = fleet.join(3)
        assert [member.call(load) for member in came] == [2] * 3
        posthog.wait_for_requests(4, timeout=8 * EVERY)
        assert posthog.full_fetches <= 1  # of a leader that has never fetched this revision itself
        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=4 * EVERY)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
        truths = posthog.truths()
        assert all(in_order(each, truths) for each in fleet.call(history))
