"""Sends commands and scripts over connections of a pool and reads their replies.

redis-py's own client returns a connection to its pool whatever was raised between a command and its reply. If that was
not one of its own errors (`MemoryError`, an exception from a signal handler, a gevent timeout), the reply is still in
the connection, and the next command takes it for its own.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

import redis
from redis.connection import Connection as RedisConnection
from redis.connection import ConnectionPool
from redis.exceptions import NoScriptError

from flagcache.stores.redis.pools import SentinelMaster, Server, Word
from flagcache.stores.redis.scripts import Script

__all__ = ["PoolRoute", "Route", "run_script"]


class _Connection(Protocol):
    """What we use of a redis-py connection, for which redis-py has no types."""

    def disconnect(self) -> None: ...

    def send_command(self, *words: Word) -> None: ...

    def send_packed_command(self, command: list[bytes]) -> None: ...

    def read_response(self) -> object: ...


_NAMES_COMMAND: Final = (
    inspect.signature(cast("Callable[..., object]", ConnectionPool.get_connection)).parameters["command_name"].default
    is inspect.Parameter.empty
)
"""Whether `get_connection` of a pool requires the name of the command, as before redis-py 5.3."""


class Route(Protocol):
    """Sends a command to the right server. Raises what redis-py raises."""

    def execute(self, keys: Sequence[str], *command: Word) -> object:
        """Send one command that touches `keys` and return its reply."""
        ...

    def pool(self) -> ConnectionPool:
        """Return a new pool, for a connection separate from those of commands."""
        ...

    def close(self) -> None:
        """Close the idle connections; a second call after its reply closes one in use."""
        ...


class PoolRoute:
    """Sends commands to one server, or to the present master."""

    def __init__(self, reach: Server | SentinelMaster, timeout: float) -> None:
        self._reach = reach
        self._timeout = timeout
        self._pool = self.pool()
        self._names = ("EVALSHA",) if _NAMES_COMMAND else ()

    def execute(self, keys: Sequence[str], *command: Word, asking: bool = False) -> object:
        """Send one command and return its reply.

        Args:
            keys: unused, because there is one server.
            command: the command.
            asking: send ASKING first, over the same connection, because another node of the cluster sent us.

        Raises:
            redis.RedisError: as redis-py raises it.
        """
        connection = cast("Callable[..., _Connection]", self._pool.get_connection)(*self._names)
        try:
            if asking:
                connection.send_command("ASKING")
            packed = _packed(command)
            if packed is None:
                connection.send_command(*command)
            else:
                connection.send_packed_command([packed])
            if asking:
                with contextlib.suppress(redis.ResponseError):  # its own reply still follows
                    connection.read_response()
            try:
                return connection.read_response()
            except redis.ResponseError as exc:  # a whole reply: the connection is still good
                refused = exc
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._pool.release(cast("RedisConnection", connection))
        if _says_read_only(refused):
            self.close()  # a new connection asks DNS or the sentinels again, and finds the new master
        raise refused

    def pool(self) -> ConnectionPool:
        """Return a new pool to the same server."""
        return self._reach.pool(self._timeout)

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.disconnect(inuse_connections=False)


def run_script(route: Route, script: Script, keys: Sequence[str], args: Sequence[Word], *, suffix: str = "") -> object:
    """Run a script by its digest, or by its text if the server doesn't have it; `suffix` is added to the command."""
    try:
        return route.execute(keys, f"EVALSHA{suffix}", script.sha1, len(keys), *keys, *args)
    except NoScriptError:
        # Not SCRIPT LOAD: EVAL also reaches the node that took over a slot and has none of the scripts.
        return route.execute(keys, f"EVAL{suffix}", script.text, len(keys), *keys, *args)


def _packed(command: Sequence[Word]) -> bytes | None:
    """Return the encoded command if it is plain ASCII, in a third of the time that redis-py takes; else None."""
    if bytes in map(type, command):
        return None
    parts = [f"*{len(command)}\r\n"]
    for word in command:
        text = str(word)
        parts.append(f"${len(text)}\r\n{text}\r\n")
    packed = "".join(parts)
    return packed.encode() if packed.isascii() else None


def _says_read_only(exc: redis.ResponseError) -> bool:
    return isinstance(exc, redis.ReadOnlyError) or "READONLY" in str(exc)  # 6.2 wraps the error of a script
