"""The address of the user's Redis, from a `redis.asyncio` client, for redis-py's synchronous classes.

Our own connections are always synchronous, because they outlive event loops and forks. Those of `redis.asyncio` don't
(up to 8.1 its pools don't compare the pid). Each option that we take over has the same name, meaning and default on
both sides (redis-py 5.0 to 8.1). Nothing in this module opens a connection, or uses the client's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, Protocol, cast

import redis
import redis.asyncio
from redis import connection as ours
from redis import sentinel as our_sentinel
from redis.asyncio import connection as theirs
from redis.asyncio import sentinel as their_sentinel
from redis.credentials import CredentialProvider

from flagcache.errors import ConfigurationError
from flagcache.stores.redis.address import (
    RedisTarget,
    checked,
    kind_of,
    refuse_by_name,
    resolve,
    target_of_cluster,
    target_of_master,
    target_of_server,
)
from flagcache.stores.redis.cluster_table import ClusterNode, ClusterTable, cluster_nodes
from flagcache.stores.redis.pools import SentinelMaster, Server, server_of

__all__ = ["resolve_asyncio"]

_ACCEPTED = "a redis.asyncio.Redis (also of master_for), a redis.asyncio.RedisCluster or a URL, as from_url takes it"

_TWINS: Mapping[object, object] = {
    theirs.Connection: ours.Connection,
    theirs.SSLConnection: ours.SSLConnection,
    theirs.UnixDomainSocketConnection: ours.UnixDomainSocketConnection,
    their_sentinel.SentinelManagedConnection: our_sentinel.SentinelManagedConnection,
    their_sentinel.SentinelManagedSSLConnection: our_sentinel.SentinelManagedSSLConnection,
}
"""The synchronous kind of connection for each asynchronous one."""


class _Connects(Protocol):
    """What we read of an asyncio pool, and of a node of an asyncio cluster."""

    connection_class: type
    connection_kwargs: Mapping[str, object]


class _MasterPool(_Connects, Protocol):
    service_name: str
    is_master: bool
    sentinel_manager: _Manager


class _Client(Protocol):
    connection_pool: _Connects


class _Manager(Protocol):
    sentinels: Sequence[_Client]
    min_other_sentinels: int


class _Node(_Connects, ClusterNode, Protocol):
    pass


class _Cluster(Protocol):
    nodes_manager: ClusterTable

    def get_primaries(self) -> list[_Node]: ...

    def get_replicas(self) -> list[_Node]: ...


def resolve_asyncio(source: object) -> RedisTarget:
    """Return the address of the user's Redis, without sending it a command.

    Args:
        source: A `redis.asyncio.Redis` (over TCP, TLS, a unix socket or Sentinel), a `redis.asyncio.RedisCluster` or a
            URL.

    Raises:
        ConfigurationError: It is none of these, or nothing can be reached by it without an event loop.
    """
    if isinstance(source, str):
        return resolve(source)
    refuse_by_name(source)
    if isinstance(source, redis.asyncio.RedisCluster):
        return checked(_of_cluster(cast("_Cluster", source)))
    if isinstance(source, redis.asyncio.Redis):
        return checked(_of_client(cast("_Client", source)))
    given = kind_of(source)
    if isinstance(source, (redis.Redis, redis.RedisCluster)):
        raise ConfigurationError(
            f"{given} is a synchronous client: RedisFlagDefinitionCache takes it; here goes {_ACCEPTED}"
        )
    raise ConfigurationError(f"redis must be {_ACCEPTED}, not {given}")


def _of_client(client: _Client) -> RedisTarget:
    pool = client.connection_pool
    server = _server_of(pool)
    if not issubclass(type(pool), their_sentinel.SentinelConnectionPool):
        return target_of_server(server)
    watched = cast("_MasterPool", pool)
    sentinels = tuple(_server_of(each.connection_pool) for each in watched.sentinel_manager.sentinels)
    master = SentinelMaster(str(watched.service_name), server, _manager_like(watched.sentinel_manager), sentinels)
    return target_of_master(master, is_master=watched.is_master)


def _manager_like(manager: _Manager) -> our_sentinel.Sentinel:
    """Return a synchronous manager for the same sentinels; it has no clients of them yet."""
    if kind_of(manager) != "redis.asyncio.sentinel.Sentinel":
        _refuse(f"{kind_of(manager)} is a Sentinel of your own, whose methods need an event loop")
    make = cast("Callable[..., our_sentinel.Sentinel]", our_sentinel.Sentinel)
    forced = getattr(manager, "_force_master_ip", None)  # an option since redis-py 6 that no public name returns
    options = {} if forced is None else {"force_master_ip": forced}
    return make([], min_other_sentinels=manager.min_other_sentinels, **options)


def _of_cluster(client: _Cluster) -> RedisTarget:
    # Before its first command an asyncio client knows only the nodes it was started with; one of them is enough.
    known = [*client.get_primaries(), *client.get_replicas()]
    nodes = known or cast("list[_Node]", [*client.nodes_manager.startup_nodes.values()])
    if not nodes:
        raise ConfigurationError("this redis.asyncio.RedisCluster knows no node of its cluster")
    server = _server_of(nodes[0], without="redis_connect_func")  # its own; it accepts none of the user's
    names = [*client.nodes_manager.startup_nodes.values()]
    return target_of_cluster(cluster_nodes(server, client.nodes_manager, nodes, names))


def _server_of(connects: _Connects, *, without: str = "") -> Server:
    kind = connects.connection_class
    twin = cast("type[ours.AbstractConnection] | None", _TWINS.get(kind))
    if twin is None:
        _refuse(f"its connections are of your class {kind.__module__}.{kind.__qualname__}, which needs an event loop")
    options = {name: value for name, value in connects.connection_kwargs.items() if name != without}
    if options.get("redis_connect_func") is not None:
        _refuse("its redis_connect_func needs an event loop")
    provider = options.get("credential_provider")
    if provider is not None and _is_asynchronous(provider):
        _refuse(f"its credential provider {kind_of(provider)} has no get_credentials, only the asynchronous one")
    return server_of(twin, options)


def _is_asynchronous(provider: object) -> bool:
    return getattr(type(provider), "get_credentials", None) in (None, CredentialProvider.get_credentials)


def _refuse(reason: str) -> NoReturn:
    raise ConfigurationError(
        f"of this asyncio client no synchronous connection can be made: {reason}; give a URL, or give"
        " RedisFlagDefinitionCache a synchronous client"
    )
