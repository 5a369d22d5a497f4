"""Sends commands over connections of a pool and reads their replies.

redis-py's own client gives a connection back to its pool whatever was raised between a command and its reply. If that
was none of its own errors (`MemoryError`, an exception out of a signal handler, a gevent timeout), the reply still lies
in the connection, and the next command takes it for its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

import redis
from redis.connection import Connection as RedisConnection
from redis.connection import ConnectionPool

from flagcache.stores.redis.pools import Word

__all__ = ["send"]


class _Connection(Protocol):
    """What we use of a redis-py connection, which leaves it without types."""

    def disconnect(self) -> None: ...

    def send_command(self, *words: Word) -> None: ...

    def read_response(self) -> object: ...


_NAMES_COMMAND: Final = (
    inspect.signature(cast("Callable[..., object]", ConnectionPool.get_connection)).parameters["command_name"].default
    is inspect.Parameter.empty
)
"""Whether a pool wants to be told the command for which a connection is taken, as before redis-py 5.3."""


def send(pool: ConnectionPool, *commands: Sequence[Word]) -> object:
    """Send commands over one connection and return the reply to the last.

    Raises:
        redis.RedisError: as redis-py raises it; of replies, the last one's.
    """
    connection = _taken_from(pool)
    try:
        for command in commands:
            connection.send_command(*command)
        replies = [_read(connection) for _ in commands]
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(cast("RedisConnection", connection))
    if isinstance(replies[-1], redis.ResponseError):
        raise replies[-1]
    return replies[-1]


def _taken_from(pool: ConnectionPool) -> _Connection:
    take = cast("Callable[..., _Connection]", pool.get_connection)
    return take("EVALSHA") if _NAMES_COMMAND else take()


def _read(connection: _Connection) -> object:
    """Return the next reply; one that says no is returned too, since more may follow it."""
    try:
        return connection.read_response()
    except redis.ResponseError as exc:
        return exc
