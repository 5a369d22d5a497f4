# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""A real cluster of three primaries and a replica, started by the tests, and the configuration of its nodes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import cast

import redis
from redis.cluster import ClusterNode
from redis.crc import key_slot

from tests.support.redis_links import SECRET, execute
from tests.support.servers import RedisServer, free_port, newest_binary, until

__all__ = ["SLOTS", "Cluster", "ClusterServer", "field_of", "new_cluster", "patient", "replicates", "run_command"]

SLOTS = 16384

NODE_TIMEOUT = 500
"""Milliseconds after which a node that says nothing is taken for dead."""


class ClusterServer(RedisServer):
    """One node of a cluster."""

    def __init__(self) -> None:
        self.bus_port = free_port()
        settings = {"cluster-enabled": "yes", "cluster-port": self.bus_port, "cluster-node-timeout": NODE_TIMEOUT}
        settings |= {"repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1}
        settings |= {"requirepass": SECRET, "masterauth": SECRET}
        args = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
        super().__init__(newest_binary(), tcp=True, args=args)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Three primaries and, behind the first, a replica."""

    primaries: list[ClusterServer]
    replica: ClusterServer

    @property
    def servers(self) -> list[ClusterServer]:
        """All nodes."""
        return [*self.primaries, self.replica]

    def client(self) -> redis.RedisCluster:
        """A client as a user makes it."""
        nodes = [ClusterNode("127.0.0.1", self.primaries[0].port)]
        return redis.RedisCluster(startup_nodes=nodes, password=SECRET, decode_responses=True, socket_timeout=30)

    def key_of(self, index: int, prefix: str = "") -> str:
        """A key that this primary owned at first."""
        keys = (f"{prefix}{number}" for number in range(10_000))
        return next(key for key in keys if key_slot(key.encode()) * 3 // SLOTS == index)

    def all_nodes_have(self, field: str, value: str) -> bool:
        """Whether all nodes say so in CLUSTER INFO."""
        return all(field_of(server, "CLUSTER INFO", field=field) == value for server in self.servers)

    def wait_until_ok(self) -> None:
        """Wait until all nodes say that the cluster is whole."""
        until(lambda: self.all_nodes_have("cluster_state", "ok"))


@contextmanager
def new_cluster() -> Generator[Cluster]:
    """Start a cluster and wait until its nodes agree; `redis-cli --cluster create` would need a redis-cli."""
    with ExitStack() as stack:
        first, second, third, replica = (stack.enter_context(ClusterServer()) for _ in range(4))
        cluster = Cluster([first, second, third], replica)
        for index, server in enumerate(cluster.primaries):
            begin, end = (-(-SLOTS * number // 3) for number in (index, index + 1))
            run_command(server, "CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        for server in cluster.servers[1:]:
            run_command(server, "CLUSTER", "MEET", "127.0.0.1", first.port, first.bus_port)
        until(lambda: replicates(replica, first), what="the replica to know its primary")
        until(lambda: cluster.all_nodes_have("cluster_known_nodes", "4"))
        cluster.wait_until_ok()
        until(lambda: field_of(replica, "INFO", "replication", field="master_link_status") == "up")
        yield cluster


@contextmanager
def patient(cluster: Cluster) -> Generator[None]:
    """No node counts as dead meanwhile."""
    for server in cluster.servers:
        run_command(server, "CONFIG", "SET", "cluster-node-timeout", 60_000)
    try:
        yield
    finally:
        for server in cluster.servers:
            run_command(server, "CONFIG", "SET", "cluster-node-timeout", NODE_TIMEOUT)


def run_command(server: RedisServer, *command: str | bytes | int) -> object:
    """Send one command to one node, past all redirection."""
    return execute(server, *command, password=SECRET)


def replicates(replica: RedisServer, primary: RedisServer) -> bool:
    """Make one node the replica of another, if it knows that one already."""
    try:
        run_command(replica, "CLUSTER", "REPLICATE", cast("bytes", run_command(primary, "CLUSTER", "MYID")))
    except redis.ResponseError:
        return False
    return True


def field_of(server: RedisServer, *command: str, field: str) -> str:
    """Return one field of the reply to INFO or CLUSTER INFO."""
    return str(cast("dict[str, object]", run_command(server, *command)).get(field))
