"""The user's code that runs while we open a connection: credential providers and connect functions.

It may ask a vault or a metadata service and take any time, so it runs on a separate thread, and the command waits for
it until its deadline. It may raise anything; a connection that it did not finish is never used.
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
"""Seconds for which we keep credentials that came too late for their caller: the next connection takes them. Otherwise
a provider that always takes longer than a command may would never log in."""


_REMEMBERED = 8
"""The number of a provider's latest tokens that are masked: an older connection may still fail with its own."""


class BoundedCredentials(CredentialProvider):
    """The user's credential provider, with the command's deadline.

    In redis-py a provider that pushes new tokens serves one client only, so ours would take the user's place. And a
    provider must raise redis-py's errors, or redis-py keeps a connection that never logged in.
    """

    def __init__(self, theirs: CredentialProvider) -> None:
        self._theirs = theirs
        self._calls: dict[int, BackgroundCall[_Credentials]] = {}
        """The call under way, or one that ended late, by process: a forked child has none of its parent's threads."""
        self.given: tuple[str, ...] = ()
        """The passwords that it returned, the latest first; a server may repeat one in an error."""

    def get_credentials(self) -> _Credentials:
        """Return the credentials, for redis-py."""
        longest, what = _time_left(), f"the credential provider {_name_of(type(self._theirs))}"
        call = self._shared_call()
        try:
            given = call.wait(longest, what)
        except SlowCallError as exc:
            raise redis.TimeoutError(str(exc)) from exc
        except TimeoutError:  # its own: its server did not answer, so this says nothing about a password
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
        """Let the next caller ask again."""
        if self._calls.get(os.getpid()) is call:
            self._calls.pop(os.getpid(), None)


def bounded_connect(theirs: ConnectFunction) -> ConnectFunction:
    """Return a connect function that calls the user's, and waits for it until the deadline.

    One that takes longer continues with a connection that is closed and not used otherwise.
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
    """Return the seconds that the command may still wait. Called before the user's code runs, which nothing can end.

    Raises:
        redis.TimeoutError: none are left.
    """
    try:
        return remaining(None)
    except TimeoutError as exc:
        raise redis.TimeoutError(str(exc)) from exc


def _name_of(code: object) -> str:
    kind = code if hasattr(code, "__qualname__") else type(code)
    return f"{kind.__module__}.{getattr(kind, '__qualname__', '')}"
