"""An HTTP session whose requests all end by a deadline, whatever the server does.

There are two limits. The timeouts of requests start again with each byte, so they limit only the time without data: a
server that sends one byte a second never exceeds them. So we keep track of the connections, and a timer's thread shuts
them down at the deadline.

Only public parts of urllib3 1.26 and 2 are used: the classes of connections that a `PoolManager` takes, their `sock`,
and their `socket_options`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, ClassVar, cast

import requests
from requests.adapters import HTTPAdapter
from typing_extensions import Self
from urllib3.exceptions import ReadTimeoutError

from flagcache.runtime.clock import monotonic
from flagcache.runtime.threads import try_start
from flagcache_posthog._sdk_request import socket_options

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool
    from urllib3.poolmanager import PoolManager

__all__ = ["RequestDeadline", "open_session"]

_SOCKET_OPTIONS: tuple[tuple[int, int, int | bytes], ...] = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)  # urllib3's default


class RequestDeadline:
    """The deadline of one request with its redirects and retry; a context that closes their connections at its end.

    No thread can interrupt the system's look-up of a host's name, which has timeouts of its own.

    Args:
        idle_timeout: seconds without a byte after which a request ends: while it connects to a host (its addresses and
            the TLS handshake), before the headers, and between two parts of a body.
        total_timeout: seconds from now until all connections end.
    """

    def __init__(self, idle_timeout: float, total_timeout: float) -> None:
        self._idle_timeout = idle_timeout
        self._connect_timeout = idle_timeout / 3  # for one address: one that drops packets leaves time for the next
        self._ends_at = monotonic() + total_timeout
        self._connect_by = 0.0
        self._late_reason = f"no complete answer within fetch_total_timeout = {total_timeout:g} s"
        self._aborted = ""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        timer = threading.Timer(self._ends_at - monotonic(), self.abort, (self._late_reason,))
        timer.name, timer.daemon = "flagcache-deadline", True
        if reason := try_start(timer):
            raise OSError(f"no thread for the deadline: {reason}")
        self._timer = timer
        return self

    def __exit__(self, *exc: object) -> None:
        # We drop our reference, because the timer refers to us. A thread in a cycle runs Python code when the garbage
        # collector finds it (`threading._dangling`); an exception of a signal handler (`sys.exit`) would be lost there.
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join()
        with self._lock:
            for connection in self._connections:
                _shut_down(connection)  # a child that was forked meanwhile may still have it open
                connection.close()
            self._connections.clear()

    @property
    def ended(self) -> str:
        """The reason why it has ended; empty if it hasn't."""
        return self._aborted or (self._late_reason if monotonic() >= self._ends_at else "")

    def abort(self, reason: str) -> None:
        """End all connections, and refuse later ones. The first reason is kept.

        In a forked child it does nothing, because the connections are the parent's, which still uses them.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._aborted = self._aborted or reason
            for connection in self._connections:
                _shut_down(connection)

    def check(self) -> None:
        """Raise if it has ended.

        Raises:
            TimeoutError: it has ended.
        """
        if reason := self.ended:
            raise TimeoutError(reason)

    def begin_connecting(self) -> tuple[float, float]:
        """Start the time limit for a connection to one host.

        Returns:
            The timeouts for requests: seconds to connect to one address, and seconds without a byte.
        """
        self._connect_by = monotonic() + self._idle_timeout
        return self._connect_timeout, self._idle_timeout

    def check_connect_time(self) -> None:
        """Raise if there is no time left to try another address.

        Raises:
            TimeoutError: there is none.
        """
        self.check()
        if min(self._ends_at, self._connect_by) - monotonic() < self._connect_timeout:
            raise TimeoutError("no time left to try another address")

    def timeout_message(self, exc: BaseException) -> str:
        """Return which time limit ended a request; empty if none did."""
        if isinstance(exc, requests.ConnectTimeout):
            return f"no connection within fetch_timeout = {self._idle_timeout:g} s (a third of it for each address)"
        timed_out = isinstance(exc, (requests.ReadTimeout, ReadTimeoutError, TimeoutError))
        return f"no byte for fetch_timeout = {self._idle_timeout:g} s" if timed_out else ""

    def track(self, connection: socket.socket) -> None:
        """Keep track of a connection from the moment it is open.

        We keep a second descriptor of it. The first one is handed over when TLS begins; it may be closed, and its
        number reused for something else, at the same moment as an `abort`.

        Raises:
            TimeoutError: it has ended.
        """
        with self._lock:
            self.check()
            left = min(self._idle_timeout, self._ends_at - monotonic())
            connection.settimeout(max(0.001, left))  # for the whole TLS handshake
            self._connections.append(socket.fromfd(connection.fileno(), connection.family, connection.type))


def open_session(deadline: RequestDeadline) -> requests.Session:
    """Create a session whose connections end at the deadline; proxies and TLS work as in requests.

    It sends single requests: the caller follows redirects.
    """
    session = _OneRequestSession()
    for scheme in ("https://", "http://"):
        session.mount(scheme, _BoundedAdapter(deadline))
    return session


class _OneRequestSession(requests.Session):
    """Sends one request and follows no redirect. It inherits `send` and `get_adapter`, which tests replace."""

    def resolve_redirects(self, *_: object, **__: object) -> Generator[requests.Response, None, None]:
        """Yield nothing. `send` calls this even with `allow_redirects=False`; the original reads the whole body."""
        yield from ()


class _BoundedAdapter(HTTPAdapter):
    """An adapter whose connections have a deadline, also through proxies. It never retries."""

    def __init__(self, deadline: RequestDeadline) -> None:
        self._deadline = deadline
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: object) -> None:  # noqa: FBT001, FBT002 - requests' signature
        super().init_poolmanager(
            connections, maxsize, block, socket_options=_CheckedSocketOptions(self._deadline), **pool_kwargs
        )
        _apply_to(self._deadline, self.poolmanager)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: object) -> PoolManager:
        manager = cast(
            "PoolManager",
            super().proxy_manager_for(proxy, socket_options=_CheckedSocketOptions(self._deadline), **proxy_kwargs),
        )
        _apply_to(self._deadline, manager)
        return manager


class _CheckedSocketOptions:
    """The socket options. urllib3 iterates over them before it tries each address, so the time limit is checked here.

    They are those of `posthog.set_socket_options`, if it was called.
    """

    def __init__(self, deadline: RequestDeadline) -> None:
        self._deadline = deadline

    def __iter__(self) -> Iterator[tuple[int, int, int | bytes]]:
        self._deadline.check_connect_time()
        options = socket_options()
        return iter(_SOCKET_OPTIONS if options is None else options)


class _WithDeadline:
    """A mixin for classes of connections: tracks the socket as soon as the connection has one."""

    deadline: ClassVar[RequestDeadline]

    @property
    def sock(self) -> object:
        return self.__dict__["sock"]

    @sock.setter
    def sock(self, sock: object) -> None:
        self.__dict__["sock"] = sock  # first, because `close` needs it
        if isinstance(sock, socket.socket):
            self.deadline.track(sock)


def _apply_to(deadline: RequestDeadline, manager: PoolManager) -> None:
    """Give a manager's connections the deadline, whatever their classes are (SOCKS has its own)."""
    pools = cast("dict[str, type[HTTPConnectionPool]]", manager.pool_classes_by_scheme)
    manager.pool_classes_by_scheme = {scheme: _pool_with(deadline, pool) for scheme, pool in pools.items()}


def _pool_with(deadline: RequestDeadline, pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    base = cast("type", pool.ConnectionCls)
    if isinstance(getattr(base, "sock", None), property):  # a test's recorder (VCR) has put its own class there
        return pool
    connection = type(base.__name__, (_WithDeadline, base), {"deadline": deadline})
    return cast("type[HTTPConnectionPool]", type(pool.__name__, (pool,), {"ConnectionCls": connection}))


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side has closed it
        connection.shutdown(socket.SHUT_RDWR)
