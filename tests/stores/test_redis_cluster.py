from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import cast

import pytest
import redis
from redis.cluster import ClusterNode
from redis.crc import key_slot

from flagcache.errors import StoreError
from flagcache.stores._redis_link import RedisLink
from tests.servers import RedisServer, free_port, newest_binary, until
from tests.stores.links import READ, SECRET, WRITE

SLOTS = 16384


def ask(server: RedisServer, *command: object) -> object:
    """Send one command to one server, past all redirection."""
    with closing(redis.Redis(unix_socket_path=str(server.socket_path), password=_password(server))) as client:
        return client.execute_command(*command)


def _password(server: RedisServer) -> str | None:
    return SECRET if isinstance(server, ClusterServer) else None


# --- cluster ----------------------------------------------------------------------------------------------------------


class ClusterServer(RedisServer):
    """One node of a cluster."""

    def __init__(self) -> None:
        self.bus_port = free_port()
        settings = {"cluster-enabled": "yes", "cluster-port": self.bus_port, "cluster-node-timeout": 500}
        settings |= {"repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1}
        settings |= {"requirepass": SECRET, "masterauth": SECRET}
        args = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
        super().__init__(newest_binary(), tcp=True, args=args)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Three primaries and, behind the first, a replica."""

    primaries: list[ClusterServer]
    replica: ClusterServer

    def client(self) -> redis.RedisCluster:
        """A client as a user makes it."""
        nodes = [ClusterNode("127.0.0.1", server.port) for server in self.primaries[:1]]
        return redis.RedisCluster(startup_nodes=nodes, password=SECRET, decode_responses=True, socket_timeout=30)

    def key_of(self, index: int) -> str:
        """A key that this primary owns at first."""
        return next(key for key in map(str, range(10_000)) if key_slot(key.encode()) * 3 // SLOTS == index)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster of the test's own, up and agreed."""
    with ExitStack() as stack:
        primaries = [stack.enter_context(ClusterServer()) for _ in range(3)]
        replica = stack.enter_context(ClusterServer())
        first = primaries[0]
        for index, server in enumerate(primaries):
            edges = [-(-SLOTS * number // 3) for number in (index, index + 1)]
            ask(server, "CLUSTER", "ADDSLOTSRANGE", edges[0], edges[1] - 1)
        for server in (*primaries[1:], replica):
            ask(server, "CLUSTER", "MEET", "127.0.0.1", first.port, first.bus_port)
        servers = (*primaries, replica)
        until(lambda: all(_info(server, "CLUSTER INFO", "cluster_known_nodes") == "4" for server in servers))
        until(lambda: _replicates(replica, first), what="the replica to know its primary")
        until(lambda: all(_info(server, "CLUSTER INFO", "cluster_state") == "ok" for server in servers))
        until(lambda: _info(replica, "INFO replication", "master_link_status") == "up")
        yield Cluster(primaries, replica)


def _replicates(replica: RedisServer, primary: RedisServer) -> bool:
    try:
        ask(replica, "CLUSTER", "REPLICATE", ask(primary, "CLUSTER", "MYID"))
    except redis.ResponseError:
        return False
    return True


def _info(server: RedisServer, command: str, field: str) -> str | None:
    reply = ask(server, *command.split())
    if isinstance(reply, dict):
        return str(reply.get(field))
    lines = cast("bytes", reply).decode().splitlines()
    return next((line.partition(":")[2] for line in lines if line.startswith(f"{field}:")), None)


def test_cluster_runs_each_script_where_its_keys_are(cluster: Cluster) -> None:
    """Scripts reach the owner of their keys, replies are bytes, and the client handed in is left as it was."""
    with closing(cluster.client()) as client, closing(RedisLink(client, timeout=2)) as link:
        ports = sorted(server.port for server in (*cluster.primaries, cluster.replica))
        assert link.address == "redis-cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        assert (link.database, SECRET in repr(link)) == (0, False)
        for index in range(3):
            link.run(WRITE, [cluster.key_of(index)], [f"value {index}"])
            assert link.run(READ, [cluster.key_of(index)], []) == f"value {index}".encode()
            assert client.get(cluster.key_of(index)) == f"value {index}"
        assert link.fingerprint == RedisLink(client, timeout=2).fingerprint
        link.close()
        assert client.get(cluster.key_of(0)) == "value 0"


def test_cluster_costs_one_round_trip_once_the_owner_is_known(cluster: Cluster) -> None:
    """After the first run of a script only the owner of the keys is asked, and it once a run."""
    with closing(cluster.client()) as client, closing(RedisLink(client, timeout=2)) as link:
        key = cluster.key_of(1)
        link.run(WRITE, [key], ["x"])
        servers = (*cluster.primaries, cluster.replica)
        before = [int(_info(server, "INFO stats", "total_commands_processed") or 0) for server in servers]
        for _ in range(10):
            link.run(WRITE, [key], ["x"])
        after = [int(_info(server, "INFO stats", "total_commands_processed") or 0) for server in servers]
        own = int(_info(cluster.primaries[1], "INFO commandstats", "cmdstat_evalsha") is not None)
        assert own
        # Asking a node costs it a few commands itself, and replication sends some of its own: 10 more is the difference.
        assert after[1] - before[1] >= 20 > max(after[0] - before[0], after[2] - before[2])


def test_cluster_follows_a_slot_that_moves(cluster: Cluster) -> None:
    """While a slot moves the new owner is asked (ASK), and afterwards first (MOVED), without a failure."""
    key = cluster.key_of(0)
    slot = key_slot(key.encode())
    source, target = cluster.primaries[0], cluster.primaries[2]
    source_id, target_id = ask(source, "CLUSTER", "MYID"), ask(target, "CLUSTER", "MYID")
    with closing(cluster.client()) as client, closing(RedisLink(client, timeout=2)) as link:
        assert link.run(READ, [key], []) is None
        ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        link.run(WRITE, [key], ["moved"])
        assert link.run(READ, [key], []) == b"moved"
        ask(target, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
        ask(source, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
        assert link.run(READ, [key], []) == b"moved"
        assert ask(target, "GET", key) == b"moved"


def test_cluster_hears_what_any_node_publishes(cluster: Cluster) -> None:
    """A subscription hears a message whichever node it was published on."""
    with closing(cluster.client()) as client, closing(RedisLink(client, timeout=2)) as link:
        with closing(link.subscribe("news")) as channel:
            for server in (*cluster.primaries, cluster.replica):
                ask(server, "PUBLISH", "news", b"\xff%d" % server.port)
                assert channel.get(5) == b"\xff%d" % server.port


def test_cluster_is_written_to_again_after_its_primary_died(cluster: Cluster) -> None:
    """A run on a dead primary fails at once, without retries; when its replica took over, runs succeed again."""
    key = cluster.key_of(0)
    with closing(cluster.client()) as client, closing(RedisLink(client, timeout=1)) as link:
        link.run(WRITE, [key], ["before"])
        until(lambda: ask(cluster.replica, "READONLY") and int(cast("int", ask(cluster.replica, "DBSIZE"))) == 1)
        cluster.primaries[0].kill()
        began = time.monotonic()
        with pytest.raises(StoreError, match="redis-cluster://"):
            link.run(WRITE, [key], ["after"])
        assert time.monotonic() - began < 0.5
        until(lambda: _succeeds(link, key), 15.0, what="the replica to take over")
        assert link.run(READ, [key], []) == b"after"


def _succeeds(link: RedisLink, key: str) -> bool:
    try:
        return link.run(WRITE, [key], ["after"]) == b"OK"
    except StoreError:
        return False


def test_cluster_node_that_is_frozen_costs_one_timeout(cluster: Cluster) -> None:
    """A frozen owner costs each run about one timeout; the keys of other nodes are served as ever."""
    with closing(cluster.client()) as client, closing(RedisLink(client, timeout=0.2)) as link:
        for index in range(3):
            link.run(WRITE, [cluster.key_of(index)], ["x"])
        cluster.primaries[1].freeze()
        began = time.monotonic()
        with pytest.raises(StoreError):
            link.run(WRITE, [cluster.key_of(1)], ["y"])
        assert time.monotonic() - began < 0.4
        assert link.run(READ, [cluster.key_of(2)], []) == b"x"
