"""Which server a command goes to: the one there is, the master of the moment, or the owner of a key in a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from redis.connection import ConnectionPool

from flagcache.stores.redis.cluster import ClusterRoute
from flagcache.stores.redis.commands import PoolRoute
from flagcache.stores.redis.pools import ClusterNodes, SentinelMaster, Server, Word

__all__ = ["Route", "route_to"]


class Route(Protocol):
    """Sends a command to the server that it concerns. Raises what redis-py raises."""

    def execute(self, keys: Sequence[str], *command: Word) -> object:
        """Send one command that touches `keys` and return its reply."""
        ...

    def pool(self) -> ConnectionPool:
        """Return a new pool, for a connection beside those that commands use."""
        ...

    def close(self) -> None:
        """Close the connections that are idle; one in use is closed by a second call after its reply."""
        ...


def route_to(reach: Server | SentinelMaster | ClusterNodes, timeout: float) -> Route:
    """Return the way to a server, nothing of it opened yet.

    Args:
        reach: Where it is.
        timeout: Seconds that connecting may take, and each reply.
    """
    return ClusterRoute(reach, timeout) if isinstance(reach, ClusterNodes) else PoolRoute(reach, timeout)
