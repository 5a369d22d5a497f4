"""An HTTP session whose requests all end at one point of time, whatever the server does.

The timeouts of requests count anew with each byte: a server that sends one a second is never late. So whoever makes the
connections here also holds on to them, and shuts them down from another thread when the time is over.

Made only of what urllib3 shows to its users, 1.26 and 2 alike: the classes that a `PoolManager` takes for its
connections, their `sock`, and their `socket_options`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, cast

import requests
from requests.adapters import HTTPAdapter
from typing_extensions import Self

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool
    from urllib3.poolmanager import PoolManager

__all__ = ["Lifeline", "open_session"]

_OPTIONS: tuple[tuple[int, int, int | bytes], ...] = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)  # urllib3's default


class Lifeline:
    """The connections of one piece of work, and their end. A context: when it is left nothing is open any more.

    What no thread can interrupt is the system's look-up of a host's name; it has timeouts of its own.

    Args:
        timeout: seconds from now until all connections end.
    """

    def __init__(self, timeout: float) -> None:
        self.attempt = timeout / 3
        """Seconds for reaching one address of a host: one that swallows packets leaves time for the next."""
        self._until = time.monotonic() + timeout
        self._late = f"no complete answer within {timeout:g} s"
        self._cut = ""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._held: list[socket.socket] = []
        self._timer = threading.Timer(timeout, self.cut, (self._late,))
        self._timer.name, self._timer.daemon = "flagcache-deadline", True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
        self._timer.join()
        with self._lock:
            for held in self._held:
                _shut_down(held)  # also for the peer of a child that was forked meanwhile and has it open
                held.close()
            self._held.clear()

    @property
    def ended(self) -> str:
        """Why it has ended; empty while it has not."""
        return self._cut or (self._late if time.monotonic() >= self._until else "")

    def cut(self, why: str) -> None:
        """End all connections, those to come too. Of two reasons the first stays.

        In a forked child it does nothing: what was under way there is the parent's, and still goes on.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._cut = self._cut or why
            for held in self._held:
                _shut_down(held)

    def check(self) -> None:
        """Go on only while it lasts.

        Raises:
            TimeoutError: it has ended.
        """
        if why := self.ended:
            raise TimeoutError(why)

    def check_attempt(self) -> None:
        """Go on only if there is time left to reach another address.

        Raises:
            TimeoutError: there is not.
        """
        self.check()
        if self._until - time.monotonic() < self.attempt:
            raise TimeoutError("no time left to try another address")

    def hold(self, connection: socket.socket) -> None:
        """Take a connection into care, from the moment it is open.

        A second descriptor of it is kept: the first changes hands when TLS begins, and may be closed, and its number be
        used for something else, in the very moment of a `cut`.

        Raises:
            TimeoutError: it has ended.
        """
        with self._lock:
            self.check()
            connection.settimeout(max(0.001, self._until - time.monotonic()))  # of the TLS handshake: for all of it
            self._held.append(socket.fromfd(connection.fileno(), connection.family, connection.type))


def open_session(lifeline: Lifeline) -> requests.Session:
    """Make a session whose connections live no longer than the lifeline; proxies and TLS are as requests has them."""
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, _BoundedAdapter(lifeline))
    return session


class _BoundedAdapter(HTTPAdapter):
    """Never retries, as that is requests' default; makes connections on a lifeline, through proxies too."""

    def __init__(self, lifeline: Lifeline) -> None:
        self._lifeline = lifeline
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: object) -> None:  # noqa: FBT001, FBT002 - requests' signature
        super().init_poolmanager(connections, maxsize, block, socket_options=_Attempts(self._lifeline), **pool_kwargs)
        _put_on(self._lifeline, self.poolmanager)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: object) -> PoolManager:
        manager = cast(
            "PoolManager",
            super().proxy_manager_for(proxy, socket_options=_Attempts(self._lifeline), **proxy_kwargs),
        )
        _put_on(self._lifeline, manager)
        return manager


class _Attempts:
    """Socket options, which urllib3 goes through before it tries an address: here a host with many of them ends."""

    def __init__(self, lifeline: Lifeline) -> None:
        self._lifeline = lifeline

    def __iter__(self) -> Iterator[tuple[int, int, int | bytes]]:
        self._lifeline.check_attempt()
        return iter(_OPTIONS)


class _OnLifeline:
    """What is mixed into a class of connections: the socket is held as soon as the connection has one."""

    lifeline: ClassVar[Lifeline]

    @property
    def sock(self) -> object:
        return self.__dict__["sock"]

    @sock.setter
    def sock(self, sock: object) -> None:
        self.__dict__["sock"] = sock  # first: whoever closes the connection must find it
        if isinstance(sock, socket.socket):
            self.lifeline.hold(sock)


def _put_on(lifeline: Lifeline, manager: PoolManager) -> None:
    """Let a manager make its connections on the lifeline, of whatever classes they are (SOCKS has its own)."""
    pools = cast("dict[str, type[HTTPConnectionPool]]", manager.pool_classes_by_scheme)
    manager.pool_classes_by_scheme = {scheme: _pool_on(lifeline, pool) for scheme, pool in pools.items()}


def _pool_on(lifeline: Lifeline, pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    base = cast("type", pool.ConnectionCls)
    connection = type(base.__name__, (_OnLifeline, base), {"lifeline": lifeline})
    return cast("type[HTTPConnectionPool]", type(pool.__name__, (pool,), {"ConnectionCls": connection}))


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was quicker
        connection.shutdown(socket.SHUT_RDWR)
