"""Thousands of connections to one Redis from one process, on asyncio, with as much of RESP 2 as they need.

They don't use redis-py: we measure the server, and a client library's own work would take most of the time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

__all__ = ["Caller", "Subscriber", "open_callers", "open_subscribers", "reply_end", "request"]

_AT_ONCE = 100
"""Connections that are opened at the same time: a server's queue of new ones is short."""


def request(*words: object) -> bytes:
    """Encode a command."""
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def reply_end(data: bytes | bytearray, at: int = 0) -> int:
    """Return where the reply that begins here ends; -1 if it is incomplete."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return -1
    kind, after = data[at : at + 1], line_end + 2
    if kind not in (b"$", b"*"):
        return after
    count = int(data[at + 1 : line_end])
    if kind == b"$":
        end = after + count + 2 if count >= 0 else after
        return end if len(data) >= end else -1
    for _ in range(count):
        after = reply_end(data, after)
        if after < 0:
            return -1
    return after


class Caller(asyncio.Protocol):
    """A connection that sends commands and waits for their replies, optionally several at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting: deque[asyncio.Future[bytes]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """As `asyncio.Protocol`."""
        self._buffer += data
        while self._waiting and (end := reply_end(self._buffer)) >= 0:
            reply = bytes(self._buffer[:end])
            del self._buffer[:end]
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """As `asyncio.Protocol`."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(ConnectionError("the server closed the connection"))

    def call(self, command: bytes) -> asyncio.Future[bytes]:
        """Send an encoded command; the future gets its raw reply, or `ConnectionError`."""
        assert self._transport is not None
        waiter = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            waiter.set_exception(ConnectionError("the server closed the connection"))
            return waiter
        self._waiting.append(waiter)
        self._transport.write(command)
        return waiter

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


class Subscriber(asyncio.Protocol):
    """A connection that listens to a channel.

    Args:
        channel: its name.
        on_message: called at each message, with the loop's time.
    """

    def __init__(self, channel: str, on_message: Callable[[float], None]) -> None:
        self._channel = channel
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self.subscribed: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(request("SUBSCRIBE", self._channel))

    def data_received(self, data: bytes) -> None:
        """As `asyncio.Protocol`."""
        self._buffer += data
        while (end := reply_end(self._buffer)) >= 0:
            del self._buffer[:end]
            if self.subscribed.done():
                self._on_message(self._loop.time())
            else:
                self.subscribed.set_result(None)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


async def open_callers(path: str, count: int) -> list[Caller]:
    """Open this many connections to a unix socket; return when the server has answered on each.

    A connection for which the server's queue has no room looks like an open one to asyncio, and never answers.
    """
    loop = asyncio.get_running_loop()
    callers: list[Caller] = []
    while len(callers) < count:
        several = min(_AT_ONCE, count - len(callers))
        opened = await asyncio.gather(*(loop.create_unix_connection(Caller, path) for _ in range(several)))
        new = [caller for _, caller in opened]
        await asyncio.gather(*(caller.call(request("PING")) for caller in new))
        callers.extend(new)
    return callers


async def open_subscribers(
    path: str, count: int, channel: str, on_messages: Sequence[Callable[[float], None]]
) -> list[Subscriber]:
    """Open this many subscriptions; return when the server has confirmed all.

    Args:
        path: of the server's socket.
        count: number of subscriptions.
        channel: its name.
        on_messages: one callback for each subscription.
    """
    loop = asyncio.get_running_loop()
    subscribers: list[Subscriber] = []
    while len(subscribers) < count:
        several = on_messages[len(subscribers) : min(count, len(subscribers) + _AT_ONCE)]
        makers = [partial(Subscriber, channel, on_message) for on_message in several]
        opened = await asyncio.gather(*(loop.create_unix_connection(make, path) for make in makers))
        new = [subscriber for _, subscriber in opened]
        await asyncio.gather(*(subscriber.subscribed for subscriber in new))
        subscribers.extend(new)
    return subscribers
