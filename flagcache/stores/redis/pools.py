"""Makes our own connections from the settings of a redis-py client.

We take only a client's address, TLS settings and credentials. Timeouts, retries, decoding and the protocol are ours,
because redis-py's own time limits grew from version to version, up to a minute for one command on a frozen server
(8.1). Nothing in this module opens a connection.
"""

from __future__ import annotations

import copy
import functools
import inspect
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool, SSLConnection
from redis.connection import Connection as TcpConnection
from redis.credentials import CredentialProvider
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from flagcache.runtime.values import SecretValue
from flagcache.stores.redis.bounded_connection import with_deadlines
from flagcache.stores.redis.user_code import BoundedCredentials, ConnectFunction, bounded_connect

__all__ = [
    "Address",
    "ClusterNodes",
    "Connection",
    "Reach",
    "SentinelMaster",
    "Server",
    "Word",
    "connection_of",
    "no_client_setinfo",
    "server_of",
]

Address: TypeAlias = "tuple[str, int]"
"""Host and port of one node."""

Word: TypeAlias = "str | bytes | int"
"""One part of a command."""

_TAKEN_OVER = frozenset(
    {"host", "port", "path", "db", "username", "password", "credential_provider", "redis_connect_func", "client_name"}
)
"""The options that we take from the user, beside all `ssl_*`. This is a list of what we take, not of what we leave out,
because each redis-py adds options, and some hold state that belongs to the user's client (`himport_registry`)."""

_CHECKS_NAMES: Final = inspect.signature(SSLConnection).parameters["ssl_check_hostname"].default is True
"""Whether redis-py by default checks that a certificate is for the host's name, as from 6 on."""

_KEEPALIVE_SECONDS = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10}
"""With these the kernel notices after about a minute that a host has vanished; a listener sends nothing."""


class Connection(Protocol):
    """What we use of a redis-py connection, for which redis-py has no types."""

    def connect(self) -> None:
        """Open it, unless it is open."""
        ...

    def disconnect(self) -> None:
        """Close it."""
        ...

    def register_connect_callback(self, callback: Callable[..., None]) -> None:
        """Register a method to be called whenever it is opened."""
        ...

    def send_command(self, *words: Word) -> None:
        """Send a command."""
        ...

    def can_read(self, timeout: float) -> bool:
        """Wait up to this many seconds until there is something to read."""
        ...

    def read_response(self, *, disable_decoding: bool) -> list[bytes]:
        """Read one reply."""
        ...


class Server(SecretValue):
    """One server: the kind of connection to it, and its options."""

    connection_class: type[AbstractConnection]
    options: Mapping[str, object]

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that log in there. A user name is no secret, unless it comes without a password."""
        provider, password, user = (self.options.get(name) for name in ("credential_provider", "password", "username"))
        known = provider.given if isinstance(provider, BoundedCredentials) else ()
        return (*known, *(_text(word) for word in (password or user,) if word))

    def at(self, address: Address) -> Server:
        """Return the server at another address, with the same options."""
        host, port = address
        return Server(self.connection_class, {**self.options, "host": host, "port": port})

    def pool(self, timeout: float) -> ConnectionPool:
        """Return a pool of our own connections, none of them open yet.

        Args:
            timeout: Seconds that connecting may take, and each reply.
        """
        # redis-py's type is too narrow: it takes others as well
        kind = cast("type[TcpConnection]", with_deadlines(self.connection_class))
        return ConnectionPool(connection_class=kind, **self._all_options(timeout))

    def master_pool(self, service: str, manager: Sentinel, timeout: float) -> ConnectionPool:
        """Return a pool of our own connections to the master that `manager` names, none of them open yet."""
        make = cast("Callable[..., ConnectionPool]", SentinelConnectionPool)
        kind = with_deadlines(self.connection_class)
        return make(service, manager, connection_class=kind, **self._all_options(timeout))

    def _all_options(self, timeout: float) -> dict[str, Any]:
        options: dict[str, Any] = {
            **self.options,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "health_check_interval": 0,
            "decode_responses": False,
            "protocol": 2,  # replies as small as a poll's are read twice as fast as with 3
            **no_client_setinfo(),
        }
        if options.get("redis_connect_func") is not None:
            options["redis_connect_func"] = bounded_connect(cast("ConnectFunction", options["redis_connect_func"]))
        if issubclass(self.connection_class, TcpConnection):
            numbers = {getattr(socket, name, None): value for name, value in _KEEPALIVE_SECONDS.items()}
            options["socket_keepalive"] = True
            options["socket_keepalive_options"] = {key: value for key, value in numbers.items() if key is not None}
        return options


class SentinelMaster(SecretValue):
    """The server that the sentinels call the master of a service; each new connection asks them again."""

    service: str
    server: Server
    manager: Sentinel
    sentinels: tuple[Server, ...]

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that log in at the master and at its sentinels."""
        return tuple(secret for server in (self.server, *self.sentinels) for secret in server.secrets)

    def pool(self, timeout: float) -> ConnectionPool:
        """Return a pool of our own connections, with its own sentinel clients."""
        # A copy keeps what a subclass or an option of the user's manager adds, without its clients' timeouts.
        manager = copy.copy(self.manager)
        # Sentinels are asked one after the other; if all are frozen, they cost one timeout together, not one each.
        each = timeout / max(1, len(self.sentinels))
        clients: list[redis.Redis] = [
            _SentinelClient(connection_pool=sentinel.pool(each)) for sentinel in self.sentinels
        ]
        manager.sentinels = clients
        return self.server.master_pool(self.service, manager, timeout)


class ClusterNodes(SecretValue):
    """The nodes of a cluster as a user's client or URL names them; each can name the others."""

    server: Server
    addresses: tuple[Address, ...]
    """The nodes known when the cache was made, primaries first; at least one."""
    remap: Callable[[str, int], Address]
    """Returns the reachable address of a node that names itself by this host and port (redis-py's `address_remap`)."""
    names: tuple[Address, ...] = ()
    """The names with which the client was started; a name may lead to other nodes later."""
    current: Callable[[], Sequence[Address]] = tuple
    """Returns the nodes that the client knows now, without a command."""
    complete: bool = True
    """Whether `addresses` are those of all nodes."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that log in at its nodes."""
        return self.server.secrets


Reach: TypeAlias = "Server | SentinelMaster | ClusterNodes"
"""How a user's Redis is reached."""


class _SentinelClient(redis.Redis):
    """A client of one sentinel. redis-py writes its repr into error messages; 6.4's own repr shows the password."""

    def __repr__(self) -> str:
        options = self.connection_pool.connection_kwargs
        return f"<sentinel {options.get('host')}:{options.get('port')}>"


def connection_of(pool: ConnectionPool) -> Connection:
    """Return a new connection, not opened, that the pool does not keep."""
    return cast("Connection", pool.make_connection())


def server_of(kind: type[AbstractConnection], theirs: Mapping[str, object]) -> Server:
    """Return the server of a user's connections; for those of a Sentinel pool, everything except the address.

    Args:
        kind: the class of the connections.
        theirs: the options with which the user's pool makes them.
    """
    redis_pys_own = kind.__module__.partition(".")[0] == "redis"
    known = _known_to_redis_py()
    options: dict[str, object] = {
        name: value
        for name, value in theirs.items()
        # The user's own connection class may have further options.
        if name in _TAKEN_OVER or name.startswith("ssl_") or not (redis_pys_own or name in known)
    }
    if issubclass(kind, SSLConnection):
        options = _with_name_checked(options)
    if options.get("credential_provider") is not None:
        options["credential_provider"] = BoundedCredentials(cast("CredentialProvider", options["credential_provider"]))
    return Server(kind, options)


def _with_name_checked(options: dict[str, object]) -> dict[str, object]:
    """Return the options with a check that the server's certificate is for its host's name, as redis-py 6 has it.

    Before 6 `redis.Redis(ssl=True)` passes `ssl_check_hostname=False` together with all other TLS options, even if the
    user chose nothing. Without the other options, as from a URL, the value is the user's. If the certificate is not
    checked, neither is the name.
    """
    said = "ssl_check_hostname" in options and "ssl_keyfile" not in options
    checks_certificate = options.get("ssl_cert_reqs", "required") not in ("none", None, ssl.CERT_NONE)
    if _CHECKS_NAMES or said or not checks_certificate:
        return options
    return {**options, "ssl_check_hostname": True}


def _text(word: object) -> str:
    return word.decode("utf-8", "surrogateescape") if isinstance(word, bytes) else str(word)


def _known_to_redis_py() -> frozenset[str]:
    kinds: tuple[type[AbstractConnection], ...] = (AbstractConnection, TcpConnection, SSLConnection)
    return frozenset(name for kind in kinds for name in inspect.signature(kind).parameters)


@functools.cache  # called by the constructor: an import under way on another thread stays locked in a forked child
def no_client_setinfo() -> Mapping[str, Any]:
    """Return the options that keep redis-py from naming itself to the server.

    Naming costs two round trips a connection, and a line in the server's ACL LOG for each user without
    `+client|setinfo`.
    """
    try:
        from redis.driver_info import DriverInfo  # noqa: PLC0415 - new in redis-py 7, which warns about the other way
    except ImportError:
        return {"lib_name": None, "lib_version": None}
    # Empty, not None: redis-py 7 takes None for "the default".
    return {"driver_info": DriverInfo(name="", lib_version="")}
