# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""A reader with a replica's URL: it writes nothing, and misses nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import pytest
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache import RedisFlagDefinitionCache
from flagcache.events import Event, StoreLost
from flagcache.stores.base import Ask, Envelope, Meta, Order, Published
from flagcache.stores.redis.connection import Script
from flagcache.stores.redis.reader import RedisReaderStore
from flagcache.stores.redis.store import SCRIPTS, RedisStore
from flagcache_posthog.testing import make_definitions
from tests.support.redis_links import execute, link_to
from tests.support.servers import SERVER_NAMES, MakeRedis, RedisServer, free_port, until

LONG = 60_000
ASK = Ask("leader", LONG, LONG, LONG, LONG)
READS = Ask("reader", LONG, LONG, LONG, LONG, may_lead=False)
ME = "reader"


@dataclass(frozen=True)
class Replicated:
    """A replica that had definitions from its primary, and lost the connection to it."""

    replica: RedisServer
    namespace: str
    meta: Meta
    url: str

    @property
    def keys(self) -> tuple[str, str]:
        """Return the keys of the namespace on the replica."""
        keys = RedisStore(self.replica.url, self.namespace).keys
        return keys.hash, keys.lease

    def contents(self) -> object:
        """All that the replica holds of the namespace; the lease's time passes."""
        return [execute(self.replica, "DUMP", key) for key in self.keys]


@pytest.fixture(params=["read-only", "writable", "without INFO"])
def replicated(request: pytest.FixtureRequest, make_redis: MakeRedis, namespace: str) -> Replicated:
    """Return replicas of each kind in turn."""
    writable = "no" if request.param == "writable" else "yes"
    primary = make_redis(tcp=True, args=("--repl-diskless-sync-delay", "0"))
    replica = make_redis(tcp=True, args=("--replica-read-only", writable))
    execute(replica, "REPLICAOF", "127.0.0.1", primary.port)
    store = RedisStore(primary.url, namespace)
    grant = store.poll(ASK).grant
    assert grant is not None
    meta = Meta("v1", grant.epoch, grant.as_of, grant.at, grant.at)
    assert store.publish("leader", Envelope(meta, b"some"), fresh=True, lease=LONG) is Published.STORED
    store.close()
    execute(primary, "HDEL", store.keys.hash, "highest")  # a worker would set it right
    until(lambda: execute(replica, "EXISTS", store.keys.hash, store.keys.lease) == 2, what="the replica to have both")
    until(lambda: not execute(replica, "HEXISTS", store.keys.hash, "highest"), what="the replica to lack this too")
    url = replica.tcp_url
    if request.param == "without INFO":
        execute(replica, "ACL", "SETUSER", "poor", "on", ">secret", "~*", "&*", "+@all", "-info")
        url = url.replace("redis://", "redis://poor:secret@")
    execute(replica, "REPLICAOF", "127.0.0.1", free_port())
    return Replicated(replica, namespace, meta, url)


Situation = Callable[[Replicated], tuple[Ask, bool]]
"""Makes a situation in which a worker would write; returns what the reader asks, and whether it gets the payload."""


def holds_newer(it: Replicated) -> tuple[Ask, bool]:
    """The replica lags behind what the reader has already."""
    held = Order(it.meta.epoch, it.meta.as_of + 1)
    return READS._replace(held=held, held_version="v2", held_age=0), False


def holds_a_later_epoch(it: Replicated) -> tuple[Ask, bool]:
    """People cleared the store, but the replica has not got that."""
    held = Order(it.meta.epoch + 1, it.meta.as_of + 1)
    return READS._replace(held=held, held_version="v2", held_age=0), False


def holds_nothing(it: Replicated) -> tuple[Ask, bool]:
    """What is stored lacks a number, as after a release that did not keep it."""
    return READS, True


@pytest.mark.parametrize("situation", [holds_newer, holds_a_later_epoch, holds_nothing])
def test_a_poll_writes_nothing(replicated: Replicated, situation: Situation) -> None:
    """A reader's poll of a replica is answered each time, and writes nothing."""
    ask, payload = situation(replicated)
    before = replicated.contents()
    with closing(RedisReaderStore(replicated.url, replicated.namespace)) as store:
        for _ in range(3):
            assert (store.poll(ask).payload == b"some") is payload
        envelope = Envelope(replicated.meta._replace(version="v2", as_of=replicated.meta.as_of + 1), b"more")
        assert store.publish(ME, envelope, fresh=False, lease=0) is Published.UNSETTLED
        assert store.discard(ME, "v1") is False
        assert not store.poll(ask).leads
    assert replicated.contents() == before


def test_a_key_of_a_foreign_type_counts_as_absent(make_redis: MakeRedis, namespace: str) -> None:
    """A worker removes it from the primary; the reader continues."""
    replica = make_redis(tcp=True, args=("--replica-read-only", "no"))
    keys = RedisStore(replica.url, namespace).keys
    for key in (keys.hash, keys.lease):
        execute(replica, "RPUSH", key, "x")
    execute(replica, "REPLICAOF", "127.0.0.1", free_port())
    with closing(RedisReaderStore(replica.tcp_url, namespace)) as store:
        reply = store.poll(READS)
        assert (reply.meta, reply.leads, reply.lease_left) == (None, False, 0)
    assert [execute(replica, "TYPE", key) for key in (keys.hash, keys.lease)] == [b"list", b"list"]


def test_a_reader_of_a_replica_reports_no_outage(replicated: Replicated) -> None:
    """Unreadable definitions are reported as such; it is no trouble that the replica refuses writes."""
    events: list[Event] = []
    cache = RedisFlagDefinitionCache(
        replicated.url, replicated.namespace, role="reader", on_event=events.append, auto_attach=False
    )
    before = replicated.contents()
    for _ in range(3):
        assert cache.should_fetch_flag_definitions() is False
    assert [type(event).__name__ for event in events] == ["PayloadRefused"]
    assert not any(isinstance(event, StoreLost) for event in events)
    assert replicated.contents() == before
    cache.shutdown()


def test_a_reader_repairs_nothing(make_redis: MakeRedis, namespace: str) -> None:
    """A primary that was emptied stays empty until a worker stores definitions again; the reader keeps what it has."""
    server = make_redis(tcp=True)
    worker = RedisFlagDefinitionCache(server.tcp_url, namespace, fallback=None, auto_attach=False)
    assert worker.should_fetch_flag_definitions()
    worker.on_flag_definitions_received(cast("FlagDefinitionCacheData", make_definitions(3)))
    reader = RedisFlagDefinitionCache(server.tcp_url, namespace, role="reader", auto_attach=False)
    assert reader.should_fetch_flag_definitions() is False
    held = reader.get_flag_definitions()
    execute(server, "FLUSHALL")
    assert reader.should_fetch_flag_definitions() is False
    assert execute(server, "DBSIZE") == 0
    assert reader.get_flag_definitions() == held
    worker.shutdown()
    reader.shutdown()


# --- servers whose scripts have less ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVER_NAMES)
def test_a_server_without_redis_log(make_redis: MakeRedis, name: str) -> None:
    """A key of a foreign type is removed there too; there is just no word of it."""
    server = make_redis(name)
    keys = RedisStore(server.url, "team").keys
    execute(server, "RPUSH", keys.hash, "x")
    head = "local redis = {call = redis.call, pcall = redis.pcall}\n"
    with link_to(server.url) as link:
        assert link.run(Script.of(head + SCRIPTS["renew"].text), [keys.hash, keys.lease], ["me", LONG, 0]) == [0, 0]
    assert execute(server, "EXISTS", keys.hash) == 0
