"""A connection of redis-py whose every step keeps the deadline of the thread that uses it."""

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
"""Bytes of the first read of a reply, which are most replies; of a long one each further read takes as much as came."""


def with_deadlines(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return the kind of connection that is like `kind`, and keeps the deadline of the thread that uses it."""
    return type(f"Bounded{kind.__name__}", (_Bounded, with_dialing(kind)), {})


class Abandonable(Protocol):
    """A connection that code may be at whose time is over."""

    def abandon(self) -> None:
        """Close it for good. No pool takes it back, and what still uses it fails."""
        ...


class _Opens(Protocol):
    """What we use of a connection, which redis-py leaves without types."""

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...


class _Bounded(Dials, AbstractConnection):
    """What is laid over a kind of connection. `_connect` is what each kind has to define, in redis-py 5 to 8."""

    _abandoned = False

    def connect(self) -> None:
        """Open it, unless it is open. After a failure of any kind it is closed: redis-py sees to that for its own."""
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
        """Seconds for the next of a host's addresses, which are tried one after the other."""
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
        """Look the host's name up within the deadline. A kind of the user's own may do it again, at once."""
        host, port = getattr(self, "host", None), getattr(self, "port", None)
        if isinstance(host, str) and isinstance(port, int):  # neither a unix socket nor a kind of the user's own
            try:
                self.addresses = addresses_of(host, port, remaining(self.longest))
            except TimeoutError as exc:
                raise redis.TimeoutError(str(exc)) from exc  # redis-py would put words of its own in place of these


class _Socket:
    """A connected socket whose every step keeps the deadline; all else is the socket's own.

    It belongs to the process that opened it: a forked child closes its copy before any other code runs there. Where no
    hooks run, and in the very process, a maker of daemons may have closed all files under us, whose numbers then name
    somebody else's: each step looks whether the number still leads to this socket, and touches nothing else.
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
        """In a forked child: close this copy of the parent's descriptor, of which neither parent nor server hears.

        Past the socket object: gevent's would tell an event loop that the child shares with its parent at this moment.
        """
        with contextlib.suppress(OSError):
            os.close(self._known().fileno())

    def settimeout(self, timeout: float | None) -> None:
        """Bound each step from the next one on, deadline or not."""
        self._timeout = timeout

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read once."""
        known = self._known()
        if self._timeout == 0:  # redis-py looks whether an idle connection is still good
            known.settimeout(0)
            return known.recv(min(size, _FIRST_READ), flags)
        deadline = running_thread().deadline
        known.settimeout(deadline.left(self._timeout))
        received = known.recv(min(size, max(_FIRST_READ, deadline.received)), flags)
        deadline.note_received(received)
        return received

    def fileno(self) -> int:
        """Tell the descriptor; redis-py with hiredis looks there whether an idle connection is still good."""
        return self._known().fileno()

    def recv_into(self, buffer: bytearray) -> int:
        """Read once, as the parser of hiredis does."""
        known, deadline = self._known(), running_thread().deadline
        known.settimeout(deadline.left(self._timeout))
        number = known.recv_into(buffer)
        deadline.note_received(memoryview(buffer)[:number])
        return number

    def sendall(self, words: bytes | memoryview) -> None:
        """Send all; of a TLS socket's own `sendall` each record may take the whole timeout."""
        rest, deadline = memoryview(words).cast("B"), running_thread().deadline
        deadline.sending += len(rest)
        while rest:
            known = self._known()
            known.settimeout(deadline.left(self._timeout))
            number = known.send(rest)
            deadline.sent += number
            rest = rest[number:]

    def shutdown(self, how: int) -> None:
        """End the connection, for whoever shares it too."""
        self._known().shutdown(how)

    def close(self) -> None:
        """Close the descriptor, if it is still this socket's."""
        with contextlib.suppress(OSError):
            self._known().close()

    def _known(self) -> socket.socket:
        """Return the socket, unless its number leads elsewhere.

        Raises:
            ConnectionError: somebody has closed it.
        """
        try:
            found = os.fstat(self._socket.fileno())
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            self._socket.detach()  # or its end would close what has the number now
            raise ConnectionError("the connection was closed by other code in this process")
        return self._socket
