"""Our own connections to the user's Redis: scripts by their digest, and one channel to listen to.

Only this package knows the differences between redis-py's versions (5.0 to 8.1). Whatever the user's client decodes or
retries, replies here are bytes, a failure is a `StoreError`, and no server costs more than one timeout.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import redis
from redis.connection import ConnectionPool
from redis.exceptions import NoPermissionError

from flagcache.errors import StoreError
from flagcache.runtime.clock import monotonic
from flagcache.runtime.threads import patched_late
from flagcache.stores.redis.address import RedisTarget, resolve
from flagcache.stores.redis.commands import run_script
from flagcache.stores.redis.deadline import Deadline, bounded, running_thread
from flagcache.stores.redis.pools import Word, connection_of
from flagcache.stores.redis.routing import route_to
from flagcache.stores.redis.scripts import Script, load_script
from flagcache.stores.redis.store_errors import as_store_error, for_users

__all__ = ["RedisLink", "Script", "Subscription", "load_script"]


_TRUSTED_FOR = 60.0
"""Seconds without a command after which we make a new connection: while a process is frozen, the server may close the
old one unnoticed. By the wall clock, because no other clock advances while a serverless platform freezes a function
between two invocations."""

_SILENCE = 30.0
"""Seconds without a message from the server after which a subscription asks for one: behind a proxy, or after its host
vanished, a connection may stay open without ever receiving anything."""


class RedisLink:
    """Our own connections to one Redis, for one process.

    Nothing is opened before the first `run` or `subscribe`, and there are no threads. So a link made before a fork
    leaves nothing behind in the child, which makes its own.

    Args:
        source: A `redis.Redis` (over TCP, TLS, a unix socket or Sentinel), a `redis.RedisCluster`, a URL, or the result
            of `resolve`. A client is never used or closed; we take only its address, TLS settings and credentials.
        timeout: Seconds that a run may take in all: waiting for its turn, the look-up of a name, connecting, each part
            of the reply. If the user's credential provider or connect function takes longer, it continues, and the run
            fails.
        in_all: Seconds that a run may take in all while its reply keeps coming; `timeout` then limits a silence. None:
            `timeout` limits the whole run.
        max_connections: The number of commands at one time; further ones wait for their turn.

    Raises:
        ConfigurationError: `source` is something else, or names no server.
    """

    def __init__(
        self,
        source: redis.Redis | redis.RedisCluster | RedisTarget | str,
        *,
        timeout: float,
        in_all: float | None = None,
        max_connections: int = 4,
    ) -> None:
        target = resolve(source)
        self.address = target.address
        """The server's address, for people; without user name and password."""
        self.database = target.database
        """The number of the database; 0 in a cluster."""
        self.fingerprint = target.fingerprint
        """Digest of address and database: equal for a URL and a client that name the same server and database."""
        self._timeout = timeout
        self._in_all = in_all
        self._reach = target.reach
        self._route = route_to(target.reach, timeout)
        self._turns = threading.BoundedSemaphore(max_connections)
        self._closed = False
        self._used_at = time.time()
        self._as_read_only = False
        """Whether the server runs this user's scripts only as read-only ones."""

    def __repr__(self) -> str:
        return f"<RedisLink {self.address}{' closed' if self._closed else ''}>"

    def run(
        self, script: Script | None, keys: Sequence[str], args: Sequence[Word], *, read_only: bool = False
    ) -> object:
        """Run a script in one round trip (two if the server has not seen it) and return its reply, texts as bytes.

        Args:
            script: The script; None: `args` are a command of Redis.
            keys: At least one; in a cluster, all in one slot.
            args: Further arguments.
            read_only: The script writes nothing, so this user needs no right to write.

        Raises:
            StoreError: The server was not reached, did not answer in time, or returned an error. After a timeout it is
                unknown whether the script ran.
        """
        deadline = Deadline(self._timeout, in_all=self._in_all if script else None)
        thread, route = running_thread(), self._route
        before = thread.deadline
        if self._closed or not self._turns.acquire(timeout=self._timeout):
            raise self._refusal()
        try:
            thread.deadline = deadline
            used_at, self._used_at = self._used_at, time.time()
            if not 0 <= self._used_at - used_at <= _TRUSTED_FOR:
                route.close()
            if patched_late():  # a thread must not use another thread's connection
                route = route_to(self._reach, self._timeout)
            if read_only and script:
                return self._read(partial(run_script, route, script, keys, args))
            return run_script(route, script, keys, args) if script else route.execute(keys, *args)
        except Exception as exc:
            failure = for_users(exc, self.address, self._timeout, deadline=deadline, reach=self._reach)
            if failure is exc:
                raise
            raise failure from exc
        finally:
            thread.deadline = before
            self._turns.release()
            if route is not self._route or self._closed:  # nothing stays open
                route.close()

    def _read(self, run: Callable[..., object]) -> object:
        """Run a script that only reads: as `EVALSHA_RO` if this user may not use `EVALSHA`, or may only read keys."""
        if not self._as_read_only:
            try:
                return run()
            except NoPermissionError as exc:
                refused = exc
            try:
                reply = run(suffix="_RO")
            except redis.ResponseError:
                raise refused from None
            self._as_read_only = True
            return reply
        try:
            return run(suffix="_RO")
        except NoPermissionError:
            self._as_read_only = False
            raise

    def command(self, keys: Sequence[str], *words: Word) -> object:
        """Run a command on the server that has these keys, and return its reply, texts as bytes.

        Raises:
            StoreError: as for `run`.
        """
        return self.run(None, keys, words)

    def subscribe(self, channel: str) -> Subscription:
        """Subscribe to a channel over a separate connection; returns once the server has confirmed it.

        The caller closes it; `close` of the link does not.

        Raises:
            StoreError: The server was not reached, or refused.
        """
        if self._closed:
            raise self._refusal()
        with as_store_error(self.address, self._timeout, self._reach):
            return Subscription(self._route.pool(), channel, self.address, self._timeout)

    def close(self) -> None:
        """Close these connections permanently; the next `run` is refused.

        Idempotent, from any thread. A command under way ends normally, within its timeout.
        """
        self._closed = True
        self._route.close()

    def _refusal(self) -> StoreError:
        if self._closed:
            return StoreError("this link was closed", address=self.address)
        why = f"other threads' commands kept this one waiting for {self._timeout:g} s"
        return StoreError(why, "timeout", self.address)


class Subscription:
    """A subscription to one channel, over its own connection. Use `RedisLink.subscribe`.

    One thread calls `get`; `close` may come from any.
    """

    def __init__(self, pool: ConnectionPool, channel: str, address: str, timeout: float) -> None:
        self._timeout = timeout
        self._pool = pool  # a connection to a Sentinel master does not live longer than its pool
        self._address = address
        self._channel = channel.encode()
        self._over = ""  # the reason, once it has ended
        self._asked = False
        self._due = 0.0  # when to ask the server for a message; once it was asked, when its answer is too late
        self._connection = connection_of(pool)
        try:
            with bounded(timeout):
                self._connection.connect()
                self._send_subscribe()
                self._connection.read_response(disable_decoding=True)
        except BaseException:
            self._connection.disconnect()
            raise
        # Otherwise the next read would silently reopen a lost connection, without the subscription.
        self._connection.register_connect_callback(self._refuse_reconnection)
        self._record_reply()

    def get(self, timeout_seconds: float) -> bytes | None:
        """Wait for the next message and return it, or None if none came in that time.

        Raises:
            StoreError: The connection is lost or was closed, and messages may have been missed. Subscribe again.
        """
        deadline = monotonic() + timeout_seconds
        try:
            with as_store_error(self._address, self._timeout):
                return self._next_before(deadline)
        except StoreError:
            self._end("the connection of this subscription was lost")
            raise
        except Exception as exc:
            # close() in another thread takes redis-py's buffers away during a read.
            closed = self._over
            self._end("this subscription failed")
            if not closed:
                raise
            raise StoreError(closed, "unreachable", self._address) from exc

    def close(self) -> None:
        """Close the connection. Idempotent; a `get` that waits in another thread raises `StoreError` at once."""
        self._over = "this subscription was closed"
        self._connection.disconnect()

    def _end(self, why: str) -> None:
        self._over = self._over or why
        self._connection.disconnect()

    def _next_before(self, deadline: float) -> bytes | None:
        while True:
            if self._over:
                raise redis.ConnectionError(self._over)
            until = min(deadline, self._due)
            if not self._connection.can_read(timeout=max(0.0, until - monotonic())):
                if monotonic() >= self._due:
                    self._expect_reply()
                if monotonic() >= deadline:
                    return None
                continue
            with bounded(self._timeout):
                reply = self._connection.read_response(disable_decoding=True)
            self._record_reply()
            if reply[0] == b"message" and reply[1] == self._channel:
                return reply[2]

    def _send_subscribe(self) -> None:
        """Send SUBSCRIBE. A repeated one changes nothing, has a reply, and needs no further right, unlike PING."""
        self._connection.send_command("SUBSCRIBE", self._channel)

    def _record_reply(self) -> None:
        self._asked, self._due = False, monotonic() + _SILENCE

    def _expect_reply(self) -> None:
        """Ask the silent server for a message.

        Raises:
            TimeoutError: it was asked, and sent none.
        """
        if self._asked:
            raise redis.TimeoutError(f"no answer to a further SUBSCRIBE within {self._timeout:g} s")
        with bounded(self._timeout):
            self._send_subscribe()
        self._asked, self._due = True, monotonic() + self._timeout

    def _refuse_reconnection(self, *_connection: object) -> None:
        raise redis.ConnectionError("the connection was lost")
