"""A redis-py connection of which every step keeps the deadline of the thread that uses it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol, cast

import redis
from redis.connection import AbstractConnection

from flagcache.runtime import process
from flagcache.runtime.lookups import addresses_of
from flagcache.stores.redis.deadline import remaining, running_thread
from flagcache.stores.redis.dialing import Dials, with_dialing

__all__ = ["Abandonable", "with_deadlines"]

_FIRST_READ = 4096
"""Bytes of the first read of a reply. Most replies are shorter; of a long one each further read takes as much as
came."""


def with_deadlines(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return a kind of connection like `kind` that keeps the deadline of the thread that uses it."""
    return type(f"Bounded{kind.__name__}", (_Bounded, with_dialing(kind)), {})


class Abandonable(Protocol):
    """A connection that may still be in use by code whose time is over."""

    def abandon(self) -> None:
        """Close it permanently. No pool takes it back, and code that still uses it fails."""
        ...


class _Opens(Protocol):
    """What we use of a connection, for which redis-py has no types."""

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...


class _Bounded(Dials, AbstractConnection):
    """The layer over a kind of connection. Each kind defines `_connect`, in redis-py 5 to 8."""

    _abandoned = False

    def connect(self) -> None:
        """Open it, unless it is open. After any failure it is closed; redis-py does that only for its own errors."""
        try:
            cast("_Opens", super()).connect()
        except BaseException:
            cast("_Opens", self).disconnect()
            raise

    def abandon(self) -> None:
        """As `Abandonable.abandon`."""
        self._abandoned = True
        cast("_Opens", self).disconnect()
        self.pid = -1  # a pool keeps no connection of another process

    @property
    def socket_connect_timeout(self) -> float | None:
        """Seconds for the next of a host's addresses; they are tried one after the other."""
        return remaining(self.longest)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        self.longest = value

    def _connect(self) -> _Socket:  # pyright: ignore[reportIncompatibleMethodOverride] - redis-py leaves it without types
        if self._abandoned:
            raise redis.ConnectionError("this connection was given up")
        self._look_up()
        timeout = self.socket_timeout
        self.socket_timeout = remaining(timeout)  # for a TLS handshake
        try:
            connect = cast("Callable[[], socket.socket]", super()._connect)  # type: ignore[safe-super]  # it is kind's
            connected = connect()
            try:
                return _Socket(connected, timeout)
            except BaseException:
                connected.close()
                raise
        finally:
            self.socket_timeout = timeout

    def _look_up(self) -> None:
        """Look up the host's name within the deadline. The user's own kind may look it up again, which is then fast."""
        host, port = getattr(self, "host", None), getattr(self, "port", None)
        if isinstance(host, str) and isinstance(port, int):  # neither a unix socket nor the user's own kind
            try:
                self.addresses = addresses_of(host, port, remaining(self.longest))
            except TimeoutError as exc:
                raise redis.TimeoutError(str(exc)) from exc  # redis-py would replace this message by its own


class _Socket:
    """A connected socket of which every step keeps the deadline; everything else is the socket's own.

    It belongs to the process that opened it: a forked child closes its copy before any other code runs there. If no
    hooks run, or in the same process, a daemonizing library may have closed all our files, and their numbers may then
    name another program's. So each step checks that the number still belongs to this socket, and uses no other.
    """

    def __init__(self, connected: socket.socket, timeout: float | None) -> None:
        self._socket = connected
        self._timeout = timeout
        found = os.fstat(connected.fileno())
        self._identity = found.st_dev, found.st_ino
        process.at_fork(self)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the socket has
        return getattr(self._socket, name)

    def forked(self) -> None:
        """In a forked child: close this copy of the parent's descriptor, without a word to parent or server.

        We bypass the socket object, because gevent's would use an event loop that the child still shares with its
        parent.
        """
        with contextlib.suppress(OSError):
            os.close(self._known().fileno())

    def settimeout(self, timeout: float | None) -> None:
        """Limit each further step, with or without a deadline."""
        self._timeout = timeout

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read once."""
        known = self._known()
        if self._timeout == 0:  # redis-py checks here whether an idle connection is still good
            known.settimeout(0)
            return known.recv(min(size, _FIRST_READ), flags)
        deadline = running_thread().deadline
        known.settimeout(deadline.left(self._timeout))
        received = known.recv(min(size, max(_FIRST_READ, deadline.received)), flags)
        deadline.record_received(received)
        return received

    def fileno(self) -> int:
        """Return the descriptor; redis-py with hiredis checks there whether an idle connection is still good."""
        return self._known().fileno()

    def recv_into(self, buffer: bytearray) -> int:
        """Read once, for the parser of hiredis."""
        known, deadline = self._known(), running_thread().deadline
        known.settimeout(deadline.left(self._timeout))
        number = known.recv_into(buffer)
        deadline.record_received(memoryview(buffer)[:number])
        return number

    def sendall(self, words: bytes | memoryview) -> None:
        """Send all; in a TLS socket's own `sendall` each record may take the whole timeout."""
        rest, deadline = memoryview(words).cast("B"), running_thread().deadline
        deadline.sending += len(rest)
        while rest:
            known = self._known()
            known.settimeout(deadline.left(self._timeout))
            number = known.send(rest)
            deadline.sent += number
            rest = rest[number:]

    def shutdown(self, how: int) -> None:
        """End the connection, also for processes that share it."""
        self._known().shutdown(how)

    def close(self) -> None:
        """Close the descriptor, if it is still this socket's."""
        with contextlib.suppress(OSError):
            self._known().close()

    def _known(self) -> socket.socket:
        """Return the socket, if its number is still its own.

        Raises:
            ConnectionError: other code has closed it.
        """
        try:
            found = os.fstat(self._socket.fileno())
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            self._socket.detach()  # otherwise its finalizer would close the file that has the number now
            raise ConnectionError("the connection was closed by other code in this process")
        return self._socket
