"""Connecting to one of several addresses behind a host's name.

redis-py tries them one after the other and gives each the whole time, so one that drops all packets takes the others'
time. Here they share the time, and the next connection starts with the address that worked.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import cast

from redis.connection import AbstractConnection
from redis.connection import Connection as TcpConnection

from flagcache.stores.redis.deadline import remaining

__all__ = ["Dials", "with_dialing"]

_worked: dict[tuple[str, int], str] = {}
"""The address that answered last, by host and port; a process uses only a few servers."""


class Dials:
    """What a connection needs to try addresses by itself."""

    addresses: Sequence[str] = ()
    """The addresses of its host's name, for the connection that is being made; empty for others."""
    longest: float | None = None
    """Seconds for the address that is being tried; fewer if the deadline comes earlier."""


def with_dialing(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return a kind of connection like `kind` that shares its time among a host's addresses."""
    if not issubclass(kind, TcpConnection):
        return kind
    # Between the kind and redis-py's own class, because the kind adds TLS to the connection, for the name.
    if kind is TcpConnection:
        return _Dialing
    bases = cast("tuple[type[AbstractConnection], ...]", (kind, _Dialing))
    return type(kind.__name__, bases, {})


class _Dialing(Dials, TcpConnection):
    def _connect(self) -> socket.socket:
        connect: Callable[[], socket.socket] = super()._connect
        name, longest = self.host, self.longest
        key = str(name), int(self.port)
        left = sorted(self.addresses, key=lambda address: address != _worked.get(key))
        try:
            while len(left) > 1:
                address = left.pop(0)
                self.host, self.longest = address, _share(longest, len(left) + 1)
                try:
                    return self._remembered(key, address, connect())
                except OSError:  # the next one may answer
                    continue
            self.host, self.longest = left[0] if left else name, longest
            return self._remembered(key, self.host, connect())
        finally:
            self.host, self.longest = name, longest

    def _remembered(self, key: tuple[str, int], address: str, connected: socket.socket) -> socket.socket:
        """Remember the address that worked, and leave the rest of the time to TLS."""
        try:
            connected.settimeout(remaining(self.socket_timeout))
        except TimeoutError:
            connected.close()
            raise
        _worked[key] = address
        return connected


def _share(longest: float | None, number: int) -> float | None:
    """Return the seconds for the first of this many addresses."""
    left = remaining(longest)
    return None if left is None else left / number
