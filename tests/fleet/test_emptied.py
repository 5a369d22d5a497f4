# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""A store that was emptied while its fleet runs: new workers start as after a flush, without waiting for a poll."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from flagcache.events import DefinitionsRepaired, PayloadRefused
from flagcache.stores.redis.store import RedisStore, keys_of
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.attached_clients import attached, events_of, subscribed, timed_load
from tests.support.fleet_tasks import contexts, load, never_lost_flags, revision
from tests.support.real_fleet import Fleet
from tests.support.servers import RedisServer, until

LONG = 60.0
"""Seconds between two polls, and between two fetches: no test lasts as long."""

SOON = 5.0
"""Seconds within which a newcomer starts: 2 s if the leader gets no notice, a fetch, and time for a slow machine."""


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client that may do anything."""
    client = redis_server.client()
    yield client
    client.close()


def spoil(admin: redis.Redis, namespace: str) -> None:
    """Put garbage in the payload's place, newer than what was there."""
    name = keys_of(namespace, 0).hash
    admin.hset(name, "payload", b"x" * int(admin.hget(name, "size") or 0))
    admin.hset(name, "version", "garbled")
    admin.hincrby(name, "as_of", 1)


@pytest.mark.parametrize("posthog_works", [True, False])
def test_one_discard_starves_nobody(
    posthog: StandInControl, redis_server: RedisServer, admin: redis.Redis, namespace: str, posthog_works: bool
) -> None:
    """A worker that discards what it cannot read notifies the holders, which bring theirs back without a request."""
    with Fleet(attached(posthog, redis_server.url, namespace, every=LONG), 3) as fleet:
        assert fleet.call(load) == [1] * 3
        subscribed(admin, namespace, 3)
        if not posthog_works:
            posthog.fail(503)
        spoil(admin, namespace)
        [new] = fleet.join(1)
        assert new.call(timed_load) < SOON
        assert new.call(revision) == 1
        assert len(events_of([new], PayloadRefused)) == 1
        assert len(until(lambda: events_of(fleet, DefinitionsRepaired), what="a repair")) == 1
        assert posthog.requests == 1
        assert all(never_lost_flags(member) for member in fleet)


def test_a_clear_starves_nobody(
    posthog: StandInControl, redis_server: RedisServer, admin: redis.Redis, namespace: str
) -> None:
    """The leader fetches at once, and once, also if other workers wait for it; the others take its definitions."""
    with Fleet(attached(posthog, redis_server.url, namespace, every=LONG), 3) as fleet:
        assert fleet.call(load) == [1] * 3
        subscribed(admin, namespace, 3)
        posthog.serve(make_definitions(5, revision=2))
        RedisStore(redis_server.url, namespace).clear()
        new = fleet.join(2)
        assert max(member.call(timed_load) for member in new) < SOON
        assert [member.call(revision) for member in new] == [2, 2]
        until(lambda: fleet.call(revision) == [2] * 5, what="the others to take it")
        assert posthog.requests == 2
        assert all(never_lost_flags(member) for member in fleet)


@pytest.mark.parametrize("emptied", ["discard", "clear"])
def test_a_leader_that_hears_nothing_is_followed(
    posthog: StandInControl, redis_server: RedisServer, admin: redis.Redis, namespace: str, emptied: str
) -> None:
    """Without listeners the lease of an emptied store lasts two more seconds; then a newcomer fetches."""
    with Fleet(contexts(posthog, redis_server.url, namespace, every=LONG, auto_attach=False), 2) as fleet:
        assert fleet.call(load) == [1] * 2
        if emptied == "discard":
            spoil(admin, namespace)
        else:
            RedisStore(redis_server.url, namespace).clear()
        [new] = fleet.join(1)
        assert new.call(timed_load) < SOON
        assert new.call(revision) == 1
        assert posthog.requests <= 2
