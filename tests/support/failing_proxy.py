"""A connection to a server that can fail: it falls silent, is slow, or accepts no more connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from enum import Enum

from typing_extensions import Self

__all__ = ["SLOW_RATE", "STALL_AFTER", "Mood", "Proxy"]

_STEP = 0.12
"""Seconds between two bytes of a reply that trickles in, each well within a socket's timeout."""

SLOW_RATE = 100_000
"""Bytes a second over a slow link."""

STALL_AFTER = 50_000
"""Bytes of a reply that come before a stalled link passes on no more."""


class Mood(Enum):
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
        self.mood = Mood.FAITHFUL
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

    def lead_to(self, target: int) -> None:
        """Pass on to another port from now on."""
        self._target = target

    def turn(self, mood: Mood) -> None:
        """Behave like this from now on."""
        was, self.mood = self.mood, mood
        if mood is Mood.DEAF:
            self._swallowed |= self._subscribed
        if Mood.FULL in (was, mood):
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._drop()
            self._listener = self._listen(self.port, 0 if mood is Mood.FULL else 64)
        if mood is Mood.FULL:
            self._fill()
        elif was is Mood.SILENT:
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
            while words := source.recv(65536):
                if replies is None and b"SUBSCRIBE" in words:
                    self._subscribed.add(sink)
                if self.mood is Mood.SILENT or replies in self._swallowed:
                    continue
                if self.mood is Mood.DRIPPING and replies:
                    self._drip(words, sink)
                elif self.mood is Mood.SLOW:
                    self._pass_slowly(words, sink)
                elif self.mood is Mood.STALLED and replies:
                    passed += sink.send(words[: max(0, STALL_AFTER - passed)])
                else:
                    sink.sendall(words)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _pass_slowly(self, words: bytes, sink: socket.socket) -> None:
        piece = SLOW_RATE // 20
        for place in range(0, len(words), piece):
            sink.sendall(words[place : place + piece])
            self._over.wait(1 / 20 * len(words[place : place + piece]) / piece)

    def _drip(self, words: bytes, sink: socket.socket) -> None:
        for place in range(len(words)):
            sink.sendall(words[place : place + 1])
            if self.mood is Mood.DRIPPING:
                self._over.wait(_STEP)
