"""A connection to a server that can fail: it falls silent, is slow, or accepts no more connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from enum import Enum

from typing_extensions import Self

__all__ = ["SLOW_RATE", "STALL_AFTER", "Behaviour", "Proxy"]

_STEP = 0.12
"""Seconds between two bytes of a reply that trickles in, each well within a socket's timeout."""

SLOW_RATE = 100_000
"""Bytes a second over a slow link."""

STALL_AFTER = 50_000
"""Bytes of a reply that come before a stalled link passes on no more."""


class Behaviour(Enum):
    """What a proxy does."""

    FAITHFUL = "passes all on"
    SILENT = "takes connections and commands, and never answers"
    DRIPPING = "passes replies on byte by byte"
    SLOW = "passes on no more than so many bytes a second, one way and the other"
    STALLED = "passes replies on until so many bytes are through, and then nothing"
    DEAF = "swallows what comes on the connections that have subscribed so far, and passes all else on"
    FULL = "never answers, and connections to it are never made"


class Proxy:
    """Listens on a port of 127.0.0.1 and passes on to another; a context manager that ends it."""

    def __init__(self, target: int) -> None:
        self.behaviour = Behaviour.FAITHFUL
        self._target = target
        self._over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._swallowed: set[socket.socket] = set()
        """The server's ends of connections that subscribed before it dropped everything."""
        self._subscribed: set[socket.socket] = set()
        self._listener = self._listen(0, 64)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    @property
    def url(self) -> str:
        """The address of a Redis behind it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def subscriptions(self) -> int:
        """How many connections have subscribed so far."""
        return len(self._subscribed)

    def forward_to(self, target: int) -> None:
        """Pass on to another port from now on."""
        self._target = target

    def behave(self, behaviour: Behaviour) -> None:
        """Behave like this from now on."""
        was, self.behaviour = self.behaviour, behaviour
        if behaviour is Behaviour.DEAF:
            self._swallowed |= self._subscribed
        if Behaviour.FULL in (was, behaviour):
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._drop()
            self._listener = self._listen(self.port, 0 if behaviour is Behaviour.FULL else 64)
        if behaviour is Behaviour.FULL:
            self._fill()
        elif was is Behaviour.SILENT:
            self._drop()

    def _listen(self, port: int, backlog: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(backlog)
        if backlog:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _fill(self) -> None:
        """Fill the queue of connections that are never accepted."""
        for _ in range(3):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", self.port))
            self._sockets.append(waiting)

    def _drop(self) -> None:
        dropped, self._sockets = self._sockets, []
        for each in dropped:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for ends in ((near, far, None), (far, near, far)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, replies: socket.socket | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if replies is None and b"SUBSCRIBE" in data:
                    self._subscribed.add(sink)
                if self.behaviour is Behaviour.SILENT or replies in self._swallowed:
                    continue
                if self.behaviour is Behaviour.DRIPPING and replies:
                    self._drip(data, sink)
                elif self.behaviour is Behaviour.SLOW:
                    self._pass_slowly(data, sink)
                elif self.behaviour is Behaviour.STALLED and replies:
                    passed += sink.send(data[: max(0, STALL_AFTER - passed)])
                else:
                    sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _pass_slowly(self, data: bytes, sink: socket.socket) -> None:
        piece = SLOW_RATE // 20
        for place in range(0, len(data), piece):
            sink.sendall(data[place : place + piece])
            self._over.wait(1 / 20 * len(data[place : place + piece]) / piece)

    def _drip(self, data: bytes, sink: socket.socket) -> None:
        for place in range(len(data)):
            sink.sendall(data[place : place + 1])
            if self.behaviour is Behaviour.DRIPPING:
                self._over.wait(_STEP)
