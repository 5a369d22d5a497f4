"""Chooses the route of commands: to one server, to the present master, or to the owner of a key in a cluster."""

from __future__ import annotations

from flagcache.stores.redis.cluster import ClusterRoute
from flagcache.stores.redis.commands import PoolRoute, Route
from flagcache.stores.redis.pools import ClusterNodes, SentinelMaster, Server

__all__ = ["route_to"]


def route_to(reach: Server | SentinelMaster | ClusterNodes, timeout: float) -> Route:
    """Return the route to a server, without opening a connection.

    Args:
        reach: The server.
        timeout: Seconds that connecting may take, and each reply.
    """
    return ClusterRoute(reach, timeout) if isinstance(reach, ClusterNodes) else PoolRoute(reach, timeout)
