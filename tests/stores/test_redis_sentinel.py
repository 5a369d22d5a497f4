# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import cast

import pytest
import redis
from redis.asyncio.sentinel import Sentinel as AsyncioSentinel
from redis.sentinel import Sentinel

from flagcache.errors import ConfigurationError, StoreError
from flagcache.stores.redis.asyncio_address import resolve_asyncio
from flagcache.stores.redis.connection import RedisLink
from flagcache.stores.redis.store import keys_of
from tests.stores.shared_definitions import clients_share, sharing_clients
from tests.support.redis_links import ESCAPED, SECRET, WRITE, Source, execute, link_to, make_client, writes
from tests.support.servers import MakeRedis, RedisServer, free_port, newest_binary, until


class SentinelServer(RedisServer):
    """One sentinel that decides alone."""

    def __init__(self, master: RedisServer) -> None:
        self._master = master
        super().__init__(newest_binary(), tcp=True, args=("--requirepass", SECRET))

    def _arguments(self) -> list[str]:
        config = self.directory / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\nunixsocket {self.socket_path}\nlogfile {self.directory / 'log'}\n"
            f"requirepass {SECRET}\n"
            f"sentinel monitor mymaster 127.0.0.1 {self._master.port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 2000\n"
        )
        return [str(config), "--sentinel"]


@dataclass(frozen=True, slots=True)
class WatchedRedis:
    """A master and its replica, watched by one sentinel."""

    master: RedisServer
    replica: RedisServer
    sentinel: SentinelServer

    def manager(self) -> Sentinel:
        """A sentinel client as a user makes it, with long timeouts; the first of its sentinels is away."""
        addresses = [("127.0.0.1", free_port()), ("127.0.0.1", self.sentinel.port)]
        options = {"password": SECRET, "socket_timeout": 30}
        return Sentinel(addresses, sentinel_kwargs=options, socket_timeout=30)

    def url(self, database: int) -> str:
        """The same as a URL."""
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}"
        return f"redis+sentinel://{hosts}/mymaster/{database}?sentinel_password={ESCAPED}"

    def asyncio_manager(self) -> AsyncioSentinel:
        """The same for asyncio."""
        addresses = [("127.0.0.1", free_port()), ("127.0.0.1", self.sentinel.port)]
        return AsyncioSentinel(addresses, sentinel_kwargs={"password": SECRET})


def replication(server: RedisServer) -> dict[str, object]:
    """Return what a server says of its replication."""
    return cast("dict[str, object]", execute(server, "INFO", "replication"))


def replicas_known_to(sentinel: redis.Redis) -> int:
    """Return how many replicas of the master a sentinel knows."""
    return len(cast("list[object]", sentinel.execute_command("SENTINEL", "REPLICAS", "mymaster")))


@pytest.fixture
def watched(make_redis: MakeRedis) -> Iterator[WatchedRedis]:
    """A master with a replica that the sentinel knows of."""
    settings = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
    master = make_redis(tcp=True, args=settings)
    replica = make_redis(tcp=True, args=(*settings, "--replicaof", f"127.0.0.1 {master.port}"))
    until(lambda: replication(replica).get("master_link_status") == "up")
    with SentinelServer(master) as sentinel:
        with closing(make_client(port=sentinel.port, password=SECRET)) as client:
            until(lambda: replicas_known_to(client) == 1, what="the sentinel to know the replica")
        yield WatchedRedis(master, replica, sentinel)


@pytest.mark.parametrize("kind", ["client", "asyncio client", "url"])
def test_sentinel_leads_to_the_master_of_the_moment(watched: WatchedRedis, kind: str) -> None:
    """Runs and messages go through the master; when it died and another took over, through that one."""
    source: Source = watched.manager().master_for("mymaster", db=2, decode_responses=True)
    if kind == "asyncio client":
        source = resolve_asyncio(watched.asyncio_manager().master_for("mymaster", db=2, decode_responses=True))
    elif kind == "url":
        source = watched.url(database=2)
    with link_to(source, timeout=1) as link:
        assert (link.address, link.database) == ("redis-sentinel://mymaster/2", 2)
        link.run(WRITE, ["key"], ["before"])
        channel = link.subscribe("news")
        execute(watched.master, "PUBLISH", "news", "one")
        assert channel.get(5) == b"one"
        watched.master.kill()
        with pytest.raises(StoreError):
            channel.get(5)
        with pytest.raises(StoreError, match="redis-sentinel://mymaster/2"):
            link.run(WRITE, ["key"], ["after"])
        until(lambda: writes(link, "key"), 20.0, what="the replica to take over")
        assert replication(watched.replica)["role"] == "master"
        with closing(link.subscribe("news")) as anew:
            execute(watched.replica, "PUBLISH", "news", "two")
            assert anew.get(5) == b"two"


def test_sentinel_that_is_frozen_costs_one_timeout_and_no_secret(watched: WatchedRedis) -> None:
    """Frozen sentinels cost a run one timeout whatever the client's is; the failure shows no password."""
    client = watched.manager().master_for("mymaster")
    with closing(client), link_to(client, timeout=1.6) as link:
        watched.sentinel.freeze()
        began = time.monotonic()
        with pytest.raises(StoreError, match="No master found for 'mymaster'") as failed:
            link.run(WRITE, ["key"], ["x"])
        assert time.monotonic() - began < 1.4
        assert SECRET not in f"{failed.value} {failed.value.__cause__!r}"


def test_sentinels_tell_two_services_of_one_name_apart() -> None:
    """The fingerprint is the same for the same sentinels in any order, and another for others; replicas are refused."""

    def fingerprint(*ports: int) -> str:
        sentinel = Sentinel([("127.0.0.1", port) for port in ports])
        return RedisLink(sentinel.master_for("mymaster"), timeout=1).fingerprint

    assert fingerprint(1, 2) == fingerprint(2, 1) != fingerprint(1, 3)
    with pytest.raises(ConfigurationError, match="slave_for"):
        RedisLink(Sentinel([("127.0.0.1", 1)]).slave_for("mymaster"), timeout=1)


def test_a_fleet_shares_through_sentinel(watched: WatchedRedis, namespace: str) -> None:
    """One fetch serves three attached clients, and a change is pushed, through the master of a service."""
    with closing(watched.manager().master_for("mymaster", decode_responses=True)) as client:
        clients_share(client, namespace)
        assert client.ping()


def test_a_failover_that_loses_the_last_write_throws_nobody_back(
    watched: WatchedRedis, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The new master has the old definitions; the workers keep the new ones and give them back, without a fetch."""

    def version_on(server: RedisServer) -> object:
        with suppress(redis.ConnectionError):  # a sentinel that promotes a replica ends its clients' connections
            return execute(server, "HGET", keys_of(namespace, 0).hash, "version")
        return None

    with closing(watched.manager().master_for("mymaster")) as client, sharing_clients(client, namespace) as made:
        first = version_on(watched.master)
        until(lambda: version_on(watched.replica) == first, what="the replica to have the first definitions")
        watched.replica.freeze()
        execute(watched.master, "CLIENT", "KILL", "TYPE", "replica")
        made.change(2)
        lost = until(lambda: None if version_on(watched.master) == first else version_on(watched.master))
        watched.master.kill()
        watched.replica.thaw()
        until(lambda: version_on(watched.replica) == lost, 30.0, what="the new master to have it back")
        until(lambda: made.one_fleet, 20.0, what="the fleet to be one again")
        until(lambda: "had lost the definitions" in caplog.text, what="that to be told, which follows")
        made.join()
        made.wait_until_all_hold(2)
        assert made.none_went_back()
        assert made.posthog.full_fetches == 2
