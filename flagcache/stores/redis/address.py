"""The address of the user's Redis, from a URL or a redis-py client, without sending it a command."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import redis
from redis.connection import AbstractConnection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.sentinel import Sentinel, SentinelConnectionPool

from flagcache.errors import ConfigurationError
from flagcache.runtime.masking import mask_chain
from flagcache.stores.redis.cluster_table import ClusterNode, ClusterTable, cluster_nodes
from flagcache.stores.redis.pools import Address, ClusterNodes, SentinelMaster, Server, server_of
from flagcache.stores.redis.urls import parse_redis_url

__all__ = [
    "RedisTarget",
    "address_of",
    "checked",
    "kind_of",
    "refuse_by_name",
    "resolve",
    "shown",
    "target_of_cluster",
    "target_of_master",
    "target_of_server",
]

_ACCEPTED = "a redis.Redis (also of Sentinel.master_for), a redis.RedisCluster or a URL, as from_url takes it"


class _Cluster(Protocol):
    """What we read of a `redis.RedisCluster`, which has no types for it. None of it sends a command."""

    def get_primaries(self) -> list[ClusterNode]: ...

    def get_replicas(self) -> list[ClusterNode]: ...

    def get_redis_connection(self, node: ClusterNode) -> redis.Redis: ...


class _Connects(Protocol):
    def on_connect(self) -> None: ...


class RedisTarget(NamedTuple):
    """The address of the user's Redis, for people and for us."""

    address: str
    """For people; no user name, no password."""
    database: int
    fingerprint: str
    """Digest of address and database: equal for a URL and a client that name the same server and database."""
    reach: Server | SentinelMaster | ClusterNodes


def resolve(source: object) -> RedisTarget:
    """Return the address of the user's Redis, without sending it a command.

    Args:
        source: A `redis.Redis` (over TCP, TLS, a unix socket or Sentinel), a `redis.RedisCluster`, a URL, or the result
            of an earlier call.

    Raises:
        ConfigurationError: It is none of these, or nothing can be reached by it.
    """
    if isinstance(source, RedisTarget):
        return source
    if isinstance(source, str):
        return checked(target_of(parse_redis_url(source)))
    refuse_by_name(source)
    if isinstance(source, redis.RedisCluster):
        return checked(_of_cluster(source))
    if isinstance(source, redis.Redis):
        return checked(_of_pool(source.connection_pool))
    given = kind_of(source)
    if any(base.__module__.startswith("redis.asyncio") for base in type(source).__mro__):
        raise ConfigurationError(
            f"{given} is an asyncio client: AsyncRedisFlagDefinitionCache takes it; here goes {_ACCEPTED}"
        )
    raise ConfigurationError(f"redis must be {_ACCEPTED}, not {given}")


def refuse_by_name(source: object) -> None:
    """Refuse known mistakes, with a message that says what to do instead.

    Raises:
        ConfigurationError: it is a client that has no one server or cluster.
    """
    modules = {base.__module__.partition(".")[0] for base in type(source).__mro__}
    pool = getattr(source, "connection_pool", None)
    connects = getattr(pool, "connection_class", None)
    if "fakeredis" in modules or getattr(connects, "__module__", "").startswith("fakeredis"):
        raise ConfigurationError(
            f"{kind_of(source)} is no server that processes could share, and has no connections that flagcache could"
            " open: in tests use MemoryFlagDefinitionCache, or a real Redis"
        )
    if type(source).__name__ == "MultiDBClient":
        raise ConfigurationError(
            f"{kind_of(source)} switches between databases, so that a fleet would have two leaders: give the client or"
            " the URL of one of them"
        )
    if "valkey" in modules:
        raise ConfigurationError(f"{kind_of(source)} is of valkey-py: give its valkey:// URL, or a redis.Redis")


def kind_of(source: object) -> str:
    """Return the full type name of what was passed as a client."""
    return f"{type(source).__module__}.{type(source).__qualname__}"


def shown(address: Address) -> str:
    """Return `host:port`, with brackets around an IPv6 host."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_of(server: Server) -> Address:
    """Return host and port of a server, with redis-py's defaults for missing ones."""
    return str(server.options.get("host") or "localhost").lower(), _number(server.options.get("port") or 6379, "port")


def _of_pool(pool: ConnectionPool) -> RedisTarget:
    server = _server_of(pool)
    if not isinstance(pool, SentinelConnectionPool):
        return target_of_server(server)
    manager = cast("Sentinel", pool.sentinel_manager)
    sentinels = tuple(_server_of(client.connection_pool) for client in manager.sentinels)
    master = SentinelMaster(str(cast("object", pool.service_name)), server, manager, sentinels)
    return target_of_master(master, is_master=cast("bool", pool.is_master))


def _server_of(pool: ConnectionPool) -> Server:
    return server_of(pool.connection_class, pool.connection_kwargs)


def target_of(reach: Server | SentinelMaster | ClusterNodes) -> RedisTarget:
    """Return the target that a URL names."""
    if isinstance(reach, SentinelMaster):
        return target_of_master(reach, is_master=True)
    return target_of_cluster(reach) if isinstance(reach, ClusterNodes) else target_of_server(reach)


def target_of_server(server: Server) -> RedisTarget:
    """Return the target of one server, reached by TCP, TLS or a unix socket.

    Raises:
        ConfigurationError: it is a unix socket, and this system has none.
    """
    database = _database_of(server)
    if issubclass(server.connection_class, UnixDomainSocketConnection):
        if not hasattr(socket, "AF_UNIX"):
            raise ConfigurationError("this system has no unix sockets: name the Redis by redis:// or rediss://")
        path = Path(str(server.options.get("path"))).absolute()
        return _target(f"unix://{path}?db={database}", f"unix {path}", database, server)
    scheme = "rediss" if issubclass(server.connection_class, SSLConnection) else "redis"
    address = f"{scheme}://{shown(address_of(server))}/{database}"
    return _target(address, address, database, server)


def target_of_master(master: SentinelMaster, *, is_master: bool) -> RedisTarget:
    """Return the target of a service's master; refuses a client of its replicas, as `is_master` says."""
    if not is_master:
        raise ConfigurationError("a client of Sentinel.slave_for cannot write: give one of Sentinel.master_for")
    database = _database_of(master.server)
    # Most services are called "mymaster", so only the sentinels' addresses distinguish two of them.
    watchers = ",".join(sorted(shown(address_of(sentinel)) for sentinel in master.sentinels))
    identity = f"sentinel {master.service} {watchers}"
    return _target(f"redis-sentinel://{master.service}/{database}", identity, database, master)


def target_of_cluster(cluster: ClusterNodes) -> RedisTarget:
    """Return the target of a cluster."""
    address = "redis-cluster://" + ",".join(sorted(shown(each) for each in cluster.addresses))
    return _target(address, address, 0, cluster)


def _of_cluster(client: redis.RedisCluster) -> RedisTarget:
    known = cast("_Cluster", client)
    nodes = [*known.get_primaries(), *known.get_replicas()]
    if not nodes:
        raise ConfigurationError("this redis.RedisCluster knows no node of its cluster")
    theirs = _server_of(known.get_redis_connection(nodes[0]).connection_pool)
    options = {name: value for name, value in theirs.options.items() if name != "redis_connect_func"}
    # That function belongs to the user's cluster client. The one that the user passed to it may be what logs us in.
    on_connect: Callable[[AbstractConnection], object] | None = getattr(client, "user_on_connect_func", None)
    if on_connect is not None:
        options["redis_connect_func"] = _connect_then(on_connect)
    manager = cast("ClusterTable", client.nodes_manager)
    names = (*(getattr(client, "startup_nodes", None) or ()), *manager.startup_nodes.values())
    server = Server(theirs.connection_class, options)
    return target_of_cluster(cluster_nodes(server, manager, nodes, names))


def _connect_then(on_connect: Callable[[AbstractConnection], object]) -> Callable[[AbstractConnection], None]:
    """Return a connect function that calls the user's as redis-py's cluster client does."""

    def connect(connection: AbstractConnection) -> None:
        cast("_Connects", connection).on_connect()
        on_connect(connection)

    return connect


def _target(address: str, identity: str, database: int, reach: Server | SentinelMaster | ClusterNodes) -> RedisTarget:
    try:
        fingerprint = hashlib.sha256(f"{identity}\n{database}".encode()).hexdigest()[:16]
    except UnicodeEncodeError:
        raise ConfigurationError(f"the host or path of this Redis is no text: {identity!a}") from None
    return RedisTarget(address, database, fingerprint, reach)


def checked(target: RedisTarget) -> RedisTarget:
    """Return the target, if a connection can be made from its options: invalid ones fail here and not in a poll.

    The connection is made, but not opened.
    """
    reach = target.reach
    server = reach.server if isinstance(reach, ClusterNodes) else reach
    try:
        server.pool(1.0).make_connection()
    except (redis.RedisError, TypeError, ValueError, OSError) as exc:
        mask_chain(exc, reach.secrets)
        raise ConfigurationError(f"no connection to {target.address} can be made of these options: {exc}") from exc
    return target


def _database_of(server: Server) -> int:
    return _number(server.options.get("db") or 0, "database")


def _number(value: object, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", str(value)):
        raise ConfigurationError(f"the {what} of this Redis must be a whole number from 0 up")
    return int(str(value))
