"""An HTTP session whose requests all end at one point of time, whatever the server does.

There are two bounds. The timeouts of requests count anew with each byte: they bound a silence. A server that sends one
byte a second is never late by them. So whoever makes the connections here also holds on to them, and shuts them down
from another thread when the total time is over.

Made only of what urllib3 shows to its users, 1.26 and 2 alike: the classes that a `PoolManager` takes for its
connections, their `sock`, and their `socket_options`.
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

__all__ = ["Lifeline", "open_session"]

_OPTIONS: tuple[tuple[int, int, int | bytes], ...] = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)  # urllib3's default


class Lifeline:
    """The connections of one piece of work, and their end. A context: when it is left nothing is open any more.

    What no thread can interrupt is the system's look-up of a host's name; it has timeouts of its own.

    Args:
        silence: seconds without a byte after which a request ends: while a host is connected to (its addresses and the
            TLS handshake), before the headers, and between two pieces of a body.
        total: seconds from now until all connections end.
    """

    def __init__(self, silence: float, total: float) -> None:
        self._silence = silence
        self._attempt = silence / 3  # for one address of a host: one that swallows packets leaves time for the next
        self._until = monotonic() + total
        self._connect_until = 0.0
        self._late = f"no complete answer within fetch_total_timeout = {total:g} s"
        self._cut = ""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._held: list[socket.socket] = []
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        timer = threading.Timer(self._until - monotonic(), self.cut, (self._late,))
        timer.name, timer.daemon = "flagcache-deadline", True
        if why := try_start(timer):
            raise OSError(f"no thread for the deadline: {why}")
        self._timer = timer
        return self

    def __exit__(self, *exc: object) -> None:
        # We drop it, because it refers to us: a thread that is left to the garbage collector runs Python code when it
        # is collected (`threading._dangling`), and there the exception of a signal handler (`sys.exit`) would be lost.
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join()
        with self._lock:
            for held in self._held:
                _shut_down(held)  # also for the peer of a child that was forked meanwhile and has it open
                held.close()
            self._held.clear()

    @property
    def ended(self) -> str:
        """Why it has ended; empty while it has not."""
        return self._cut or (self._late if monotonic() >= self._until else "")

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

    def begin_connecting(self) -> tuple[float, float]:
        """Note that a host is connected to from now on.

        Returns:
            The timeouts that requests takes: seconds for reaching one address, and for a silence.
        """
        self._connect_until = monotonic() + self._silence
        return self._attempt, self._silence

    def check_attempt(self) -> None:
        """Go on only if there is time left to reach another address.

        Raises:
            TimeoutError: there is not.
        """
        self.check()
        if min(self._until, self._connect_until) - monotonic() < self._attempt:
            raise TimeoutError("no time left to try another address")

    def silence(self, exc: BaseException) -> str:
        """Return which silence ended a request, for people; empty if it was something else."""
        if isinstance(exc, requests.ConnectTimeout):
            return f"no connection within fetch_timeout = {self._silence:g} s (a third of it for each address)"
        timed_out = isinstance(exc, (requests.ReadTimeout, ReadTimeoutError, TimeoutError))
        return f"no byte for fetch_timeout = {self._silence:g} s" if timed_out else ""

    def hold(self, connection: socket.socket) -> None:
        """Take a connection into care, from the moment it is open.

        A second descriptor of it is kept: the first changes hands when TLS begins, and may be closed, and its number be
        used for something else, in the very moment of a `cut`.

        Raises:
            TimeoutError: it has ended.
        """
        with self._lock:
            self.check()
            left = min(self._silence, self._until - monotonic())
            connection.settimeout(max(0.001, left))  # of the TLS handshake: for all of it
            self._held.append(socket.fromfd(connection.fileno(), connection.family, connection.type))


def open_session(lifeline: Lifeline) -> requests.Session:
    """Make a session whose connections live no longer than the lifeline; proxies and TLS are as requests has them.

    It answers one request at a time: redirects are the caller's.
    """
    session = _OneRequestSession()
    for scheme in ("https://", "http://"):
        session.mount(scheme, _BoundedAdapter(lifeline))
    return session


class _OneRequestSession(requests.Session):
    """Sends what it is told and no more. `send` and `get_adapter` are inherited: tests and tracers replace them."""

    def resolve_redirects(self, *_: object, **__: object) -> Generator[requests.Response, None, None]:
        """Resolve none. `send` looks here even if told not to follow, and requests' own reads the whole body first."""
        yield from ()


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
    """Socket options, which urllib3 goes through before it tries an address: here a host with many of them ends.

    They are those of `posthog.set_socket_options`, if it was called.
    """

    def __init__(self, lifeline: Lifeline) -> None:
        self._lifeline = lifeline

    def __iter__(self) -> Iterator[tuple[int, int, int | bytes]]:
        self._lifeline.check_attempt()
        chosen = socket_options()
        return iter(_OPTIONS if chosen is None else chosen)


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
    if isinstance(getattr(base, "sock", None), property):  # a recorder of tests (VCR) has put its own class there
        return pool
    connection = type(base.__name__, (_OnLifeline, base), {"lifeline": lifeline})
    return cast("type[HTTPConnectionPool]", type(pool.__name__, (pool,), {"ConnectionCls": connection}))


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was quicker
        connection.shutdown(socket.SHUT_RDWR)
