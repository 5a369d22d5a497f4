"""Reads URLs of a Redis: those of redis-py for one server, and our own for a Sentinel's master or a cluster.

    redis+sentinel://[user:password@]host[:26379][,host...]/service[/db][?sentinel_username=...&sentinel_password=...]
    redis+cluster://[user:password@]host[:6379][,host...][?...]

`rediss+...` is the same over TLS. User and password are those of the servers; the options are those of `redis://`.
Messages show only a URL's scheme, and no exception of the parsers is chained, because a password with an unescaped `/`
or `@` can get into any other part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import redis
from redis.connection import AbstractConnection, ConnectionPool, SSLConnection
from redis.connection import Connection as TcpConnection
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

from flagcache.errors import ConfigurationError
from flagcache.stores.redis.pools import Address, ClusterNodes, SentinelMaster, Server, no_client_setinfo, server_of
from flagcache.stores.spec import REDIS_SCHEMES, scheme_in

__all__ = ["parse_redis_url"]

_SENTINEL_PORT, _REDIS_PORT = 26379, 6379

_OF_SENTINELS = {"sentinel_username": "username", "sentinel_password": "password"}
"""Options of Sentinel URLs only: they log in at the sentinels themselves."""

_MANAGED: Mapping[type[AbstractConnection], type[AbstractConnection]] = {
    TcpConnection: SentinelManagedConnection,
    SSLConnection: SentinelManagedSSLConnection,
}


def parse_redis_url(url: str) -> Server | SentinelMaster | ClusterNodes:
    """Return the server, master or cluster of a URL, without a connection.

    Raises:
        ConfigurationError: it cannot be read.
    """
    given = scheme_in(url)
    scheme = REDIS_SCHEMES.get(given, "")
    if not scheme:
        begins = f"{given}://" if re.fullmatch(r"[a-z][a-z0-9+.-]*", given) else "no scheme"
        raise ConfigurationError(
            "a Redis URL begins with redis://, rediss://, unix://, valkey:// or valkeys://, or, such as"
            f" redis+sentinel:// and redis+cluster://, with what stands behind it; this one has {begins}"
        )
    _, _, rest = url.partition("://")
    kind = given.partition("+")[2]
    if kind == "sentinel":
        return _master(_Parts.of(rest, scheme, given))
    if kind == "cluster":
        return _cluster(_Parts.of(rest, scheme, given))
    return _server_of(_pool(f"{scheme}://{rest}", given))


class _Parts(NamedTuple):
    """A URL of several hosts."""

    scheme: str
    """The scheme of redis-py for each of its servers."""
    given: str
    """The scheme that was given, for messages."""
    user: str
    """User name and password as written, with the `@` after them."""
    hosts: tuple[str, ...]
    path: str
    query: str

    @classmethod
    def of(cls, rest: str, scheme: str, given: str) -> _Parts:
        """Split what follows the scheme."""
        authority, mark, tail = _cut(rest)
        path, _, query = (mark + tail).partition("#")[0].partition("?")
        if "@" in path:  # it comes before the hosts, and a `/` before it belongs to a password
            raise _unreadable(given)
        user, at, hosts = authority.rpartition("@")
        return cls(scheme, given, user + at, tuple(hosts.split(",")), path, query)

    def server_at(self, host: str, port: int, *, user: str, query: str) -> Server:
        """Return the server at one of the hosts, with the URL's other options."""
        if not host or not re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+)(:[0-9]+)?", host):
            raise _unreadable(self.given)
        where = host if re.search(r":[0-9]+$", host.rpartition("]")[2]) else f"{host}:{port}"
        return _server_of(_pool(f"{self.scheme}://{user}{where}?{query}", self.given))


def _cut(rest: str) -> tuple[str, str, str]:
    """Split at the end of the authority, and keep the separator."""
    end = re.search(r"[/?#]", rest)
    return (rest, "", "") if end is None else (rest[: end.start()], end[0], rest[end.end() :])


def _master(parts: _Parts) -> SentinelMaster:
    """Return the master that a `...+sentinel://` URL names."""
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not re.fullmatch(r"[0-9]*", database):
        raise ConfigurationError(
            f"a {parts.given}:// URL names the service, and may name a database, after its hosts:"
            f" {parts.given}://host:26379/mymaster/0"
        )
    options = parse_qsl(parts.query, keep_blank_values=True)
    login = {_OF_SENTINELS[name]: value for name, value in options if name in _OF_SENTINELS}
    theirs = [(name, value) for name, value in options if name not in _OF_SENTINELS]
    query = urlencode([*theirs, ("db", database)] if database else theirs)
    user = f"{quote(login.get('username', ''), safe='')}:{quote(login.get('password', ''), safe='')}@" if login else ""
    of_sentinels = urlencode([(name, value) for name, value in theirs if name != "db"])
    sentinels = tuple(parts.server_at(host, _SENTINEL_PORT, user=user, query=of_sentinels) for host in parts.hosts)
    known = parts.server_at(parts.hosts[0], _REDIS_PORT, user=parts.user, query=query)
    where = {"host", "port"}
    server = Server(
        _MANAGED[known.connection_class], {name: value for name, value in known.options.items() if name not in where}
    )
    make = cast("Callable[..., Sentinel]", Sentinel)
    return SentinelMaster(unquote(service), server, make([]), sentinels)


def _cluster(parts: _Parts) -> ClusterNodes:
    """Return the cluster whose nodes a `...+cluster://` URL names, some or all."""
    if parts.path.strip("/") not in ("", "0") or any(name == "db" for name, _ in parse_qsl(parts.query)):
        raise ConfigurationError(f"a cluster has no databases: end the {parts.given}:// URL with its hosts")
    servers = [parts.server_at(host, _REDIS_PORT, user=parts.user, query=parts.query) for host in parts.hosts]
    names = tuple((str(server.options["host"]), int(str(server.options["port"]))) for server in servers)
    return ClusterNodes(servers[0], names, _as_named, names=names, complete=False)


def _as_named(host: str, port: int) -> Address:
    """Return the address that the node names."""
    return host, port


def _server_of(pool: ConnectionPool) -> Server:
    return server_of(pool.connection_class, pool.connection_kwargs)


def _pool(url: str, given: str) -> ConnectionPool:
    """Read a URL as `redis.Redis.from_url` does, and refuse what that would silently misread."""
    try:
        scheme, path = urlsplit(url).scheme, urlsplit(url).path
        pool = ConnectionPool.from_url(url)
        # This refuses an option that redis-py doesn't know, and opens nothing. Without a library name, because for that
        # redis-py looks up its version among all installed packages, which takes longer than everything else here.
        pool.connection_class(**{**no_client_setinfo(), **pool.connection_kwargs})
    except (redis.RedisError, TypeError, ValueError):
        raise _unreadable(given) from None
    if scheme == "unix" and not path:
        raise ConfigurationError("a unix:// URL needs the path of the socket: unix:///run/redis.sock?db=0")
    if scheme != "unix" and not re.fullmatch(r"/?[0-9]*/?", path):
        raise ConfigurationError(f"after the host of a {scheme}:// URL comes the number of a database, such as /0")
    return pool


def _unreadable(given: str) -> ConfigurationError:
    return ConfigurationError(
        f"this {given}:// URL cannot be read: a host, its port or one of its ?options is not valid; in user name and"
        " password the characters / ? # @ : % must be percent-encoded"
    )
