"""If a server loses a script, or another program damages a key, the call that finds it repairs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
import redis

from flagcache.stores.base import Ask, Envelope, Meta, Published
from flagcache.stores.redis.store import RedisStore
from tests.support.servers import MakeRedis, RedisServer

ASK = Ask("tester", interval=60_000, lease=60_000, cold_lease=60_000, challenge=600_000)
SPOILS: dict[str, Callable[[redis.Redis, str], object]] = {
    "a string": lambda client, key: client.set(key, b"\xff"),
    "a list": lambda client, key: client.lpush(key, "x", "y"),
    "a stream": lambda client, key: client.xadd(key, {"x": "y"}),
    "a hash": lambda client, key: client.hset(key, "x", "y"),
}


def test_flushed_scripts_are_sent_again_within_the_call(make_redis: MakeRedis, namespace: str) -> None:
    """NOSCRIPT is not a failure: the verb does its work."""
    server = make_redis()
    with closing(RedisStore(server.url, namespace)) as store:
        grant = store.poll(ASK).grant
        server.client().script_flush()
        assert store.renew("tester", 60_000)
        assert store.poll(ASK).grant == grant


@pytest.mark.parametrize(
    ("spoilt", "kind"),
    [("hash", "a string"), ("hash", "a list"), ("lease", "a list"), ("lease", "a stream"), ("lease", "a hash")],
)
def test_a_key_of_a_foreign_type_is_removed_and_the_server_logs_it(
    redis_server_any: RedisServer, namespace: str, spoilt: str, kind: str
) -> None:
    """The verb that finds it continues as if the key had been deleted; the key's name is in the server's log."""
    client = redis_server_any.client()
    with closing(RedisStore(redis_server_any.url, namespace)) as store:
        grant = store.poll(ASK).grant
        assert grant is not None
        meta = Meta("v1", grant.epoch, grant.as_of, grant.at, grant.at)
        store.publish("tester", Envelope(meta, b"some"), fresh=True, lease=60_000)
        key: str = getattr(store.keys, spoilt)
        client.delete(key)
        SPOILS[kind](client, key)
        reply = store.poll(ASK)
        assert reply.leads
        assert (reply.meta is None) == (spoilt == "hash")
        assert f"flagcache removed {key}: it was of a foreign type" in redis_server_any.log()
        if spoilt == "hash":
            assert store.publish("tester", Envelope(meta, b"some"), fresh=False, lease=60_000) is Published.STORED
        assert store.inspect().meta == meta
