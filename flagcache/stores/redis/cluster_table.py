"""What a redis-py cluster client, synchronous or not, knows of its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from flagcache.stores.redis.pools import Address, ClusterNodes, Server

__all__ = ["ClusterNode", "ClusterTable", "cluster_nodes"]


class ClusterNode(Protocol):
    """What we read of a node in a cluster client's table."""

    host: str
    port: int


class ClusterTable(Protocol):
    """What we read of a cluster client's `nodes_manager`. None of it sends a command, or waits for code that does."""

    @property
    def nodes_cache(self) -> Mapping[str, ClusterNode]:
        """The nodes that it knows now, by name."""
        ...

    @property
    def startup_nodes(self) -> Mapping[str, ClusterNode]:
        """The nodes where it begins to look: those it was started with, or after its first look those it found."""
        ...

    def remap_host_port(self, host: str, port: int) -> Address:
        """Return the reachable address of a node that names itself by this host and port."""
        ...


def cluster_nodes(
    server: Server, manager: ClusterTable, nodes: Sequence[ClusterNode], names: Sequence[ClusterNode]
) -> ClusterNodes:
    """Return the nodes that a cluster client knows, knows later, and was started with.

    Args:
        server: one of them, with the options that reach it.
        manager: the client's table.
        nodes: those it knows, at least one.
        names: those it was started with, as far as they are known.
    """
    return ClusterNodes(
        server,
        _addresses(nodes),
        manager.remap_host_port,
        names=_addresses(names),
        current=lambda: _addresses([*manager.nodes_cache.values()]),
        complete=bool(manager.nodes_cache),
    )


def _addresses(nodes: Iterable[ClusterNode]) -> tuple[Address, ...]:
    return tuple(dict.fromkeys((node.host, int(node.port)) for node in nodes))
