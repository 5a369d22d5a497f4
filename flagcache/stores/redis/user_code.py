"""Code of the user's that runs while one of our connections is opened: credential providers and connect functions.

It may ask a vault or a metadata service and take as long as it likes, so it runs on a thread of its own and the command
waits for it no longer than its deadline. It may raise anything; a connection that it did not finish is never used.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias, cast

import redis
from redis.connection import AbstractConnection
from redis.credentials import CredentialProvider

from flagcache.runtime.background_call import BackgroundCall, SlowCallError
from flagcache.runtime.clock import monotonic
from flagcache.stores.redis.bounded_connection import Abandonable
from flagcache.stores.redis.deadline import remaining

__all__ = ["BoundedCredentials", "ConnectFunction", "bounded_connect"]

ConnectFunction: TypeAlias = Callable[[AbstractConnection], object]

_Credentials: TypeAlias = "tuple[str] | tuple[str, str]"

_KEPT = 60.0
"""Seconds for which credentials are kept that came after their caller's time: the next connection takes them. Else a
provider that always takes longer than a command may would never log in."""


_REMEMBERED = 8
"""How many of a provider's latest tokens are masked: an older connection may still fail with its own."""


class BoundedCredentials(CredentialProvider):
    """The user's credential provider, waited for no longer than the command's deadline.

    redis-py lets a provider that pushes new tokens serve one client alone: ours would take the user's place. And what
    a provider raises must be redis-py's error, or redis-py keeps a connection that never logged in.
    """

    def __init__(self, theirs: CredentialProvider) -> None:
        self._theirs = theirs
        self._calls: dict[int, BackgroundCall[_Credentials]] = {}
        """The call under way, or that ended late, by process: a forked child has none of its parent's threads."""
        self.given: tuple[str, ...] = ()
        """The passwords that it returned, the latest first: a server may repeat one in an error."""

    def get_credentials(self) -> _Credentials:
        """Return what logs in, for redis-py."""
        longest, what = _time_left(), f"the credential provider {_name_of(type(self._theirs))}"
        call = self._shared_call()
        try:
            given = call.wait(longest, what)
        except SlowCallError as exc:
            raise redis.TimeoutError(str(exc)) from exc
        except TimeoutError:  # its own: whatever it asks gave it no answer, so nothing is known of a password
            self._forget(call)
            own = SlowCallError(f"{what} timed out")
            raise redis.TimeoutError(str(own)) from own
        except redis.RedisError:
            self._forget(call)
            raise
        except Exception as exc:
            self._forget(call)
            raise redis.AuthenticationError(f"the credential provider failed: {type(exc).__name__}") from exc
        self._forget(call)
        self.given = tuple(dict.fromkeys([given[-1], *self.given]))[:_REMEMBERED]  # the password comes last
        return given

    def _shared_call(self) -> BackgroundCall[_Credentials]:
        known = self._calls.get(os.getpid())
        if known is not None and known.ended_at is not None and (known.failed or monotonic() > known.ended_at + _KEPT):
            self._forget(known)
        mine = BackgroundCall(self._theirs.get_credentials, "credentials")
        shared = self._calls.setdefault(os.getpid(), mine)
        if shared is mine:
            mine.start()
        return shared

    def _forget(self, call: BackgroundCall[_Credentials]) -> None:
        """The next caller asks anew."""
        if self._calls.get(os.getpid()) is call:
            self._calls.pop(os.getpid(), None)


def bounded_connect(theirs: ConnectFunction) -> ConnectFunction:
    """Return a connect function that does what the user's does, and waits for it no longer than the deadline.

    One that takes longer goes on with a connection that is closed, and that nothing else uses.
    """

    def connect(connection: AbstractConnection) -> None:
        ours = cast("Abandonable", connection)
        try:
            longest = _time_left()
        except redis.TimeoutError:
            ours.abandon()
            raise
        call = BackgroundCall(lambda: theirs(connection), "connect")
        call.start()
        try:
            call.wait(longest, f"the connect function {_name_of(theirs)}")
        except SlowCallError as exc:
            ours.abandon()
            raise redis.TimeoutError(str(exc)) from exc

    return connect


def _time_left() -> float | None:
    """Return how long the command may still wait, in seconds. Asked before the user's code runs, which nothing ends.

    Raises:
        redis.TimeoutError: no longer.
    """
    try:
        return remaining(None)
    except TimeoutError as exc:
        raise redis.TimeoutError(str(exc)) from exc


def _name_of(code: object) -> str:
    kind = code if hasattr(code, "__qualname__") else type(code)
    return f"{kind.__module__}.{getattr(kind, '__qualname__', '')}"
