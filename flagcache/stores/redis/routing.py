"""Which server a command goes to: the one there is, the master of the moment, or the owner of a key in a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import redis
from redis.connection import ConnectionPool

from flagcache.stores.redis.cluster import ClusterRoute
from flagcache.stores.redis.commands import send
from flagcache.stores.redis.pools import ClusterNodes, SentinelMaster, Server, Word

__all__ = ["PoolRoute", "Route", "route_to"]


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


class PoolRoute:
    """The way to one server, or to the master of the moment."""

    def __init__(self, reach: Server | SentinelMaster, timeout: float) -> None:
        self._reach = reach
        self._timeout = timeout
        self._pool = self.pool()

    def execute(self, keys: Sequence[str], *command: Word) -> object:
        """Send one command and return its reply."""
        try:
            return send(self._pool, command)
        except redis.ResponseError as exc:
            if _says_read_only(exc):
                self.close()  # a new connection asks DNS or the sentinels again, and finds the new master
            raise

    def pool(self) -> ConnectionPool:
        """Return a new pool to the same server."""
        return self._reach.pool(self._timeout)

    def close(self) -> None:
        """Close the connections that are idle."""
        self._pool.disconnect(inuse_connections=False)


def _says_read_only(exc: redis.ResponseError) -> bool:
    return isinstance(exc, redis.ReadOnlyError) or "READONLY" in str(exc)  # 6.2 wraps the error of a script
