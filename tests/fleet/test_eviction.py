# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""Redis keeps evicting our keys: the fleet fetches as rarely as before, and logs it once a minute."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest

from flagcache.errors import StoreError
from flagcache.stores.redis.store import RedisStore, keys_of
from flagcache_posthog.testing import StandInControl
from tests.support.attached_clients import attached, subscribed
from tests.support.fleet_tasks import asks, load, logs, never_lost_flags
from tests.support.real_fleet import Fleet
from tests.support.servers import SERVER_NAMES, MakeRedis, RedisServer

EVERY = 2.0
INTERVALS = 4
HEARD = 0.3
"""Intervals within which each worker learns that another was granted a fetch."""


@pytest.mark.parametrize("evicted", ["both", "hash", "either"])
def test_a_fleet_under_eviction_asks_once_an_interval(
    posthog: StandInControl, redis_server: RedisServer, namespace: str, evicted: str
) -> None:
    """Each worker's memory of the latest grant replaces the store's, which loses all within milliseconds."""
    admin, keys, chance = redis_server.client(), keys_of(namespace, 0), random.Random(evicted)
    with Fleet(attached(posthog, redis_server.url, namespace, every=EVERY), 8) as fleet:
        fleet.call(load)
        subscribed(admin, namespace, 8)
        before, began = posthog.requests, time.monotonic()
        while time.monotonic() < began + INTERVALS * EVERY:
            gone = {"both": keys[:2], "hash": keys[:1], "either": (chance.choice(keys[:2]),)}[evicted]
            admin.delete(*gone)
            time.sleep(0.004)
        arrived = sorted(request.arrived_at for request in asks(posthog, after=before))
        turns = 1 + sum(later - earlier > HEARD * EVERY for earlier, later in pairwise(arrived))
        assert INTERVALS - 2 <= turns <= INTERVALS + 1, arrived
        assert len(arrived) <= 3 * INTERVALS, arrived  # some ask before the notice of another's grant arrives
        assert all(never_lost_flags(member) for member in fleet)
        lines = [line for member in fleet.call(logs) for line in member if "lost the definitions" in line.text]
        assert 1 <= len(lines) <= len(fleet.members)
    admin.close()


@pytest.mark.parametrize("name", SERVER_NAMES)
def test_the_policy_is_told(make_redis: MakeRedis, name: str) -> None:
    """The event has the policy as Redis names it, if its user may ask."""
    server = make_redis(name, tcp=True)
    admin = server.client()
    admin.config_set("maxmemory-policy", "allkeys-lfu")
    store = RedisStore(server.url, "team")
    assert store.eviction_policy() == "allkeys-lfu"
    store.close()
    admin.execute_command("ACL", "SETUSER", "poor", "on", ">secret", "~*", "&*", "+@all", "-info")
    store = RedisStore(f"redis://poor:secret@127.0.0.1:{server.port}/0", "team")
    with pytest.raises(StoreError):
        store.eviction_policy()
    store.close()
    admin.close()
