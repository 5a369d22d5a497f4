"""Classifies Redis errors: unreachable, timed out, or refused, and why."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from flagcache.errors import StoreError
from flagcache.runtime.background_call import SlowCallError
from flagcache.runtime.masking import mask_chain
from flagcache.stores.redis.deadline import Deadline
from flagcache.stores.redis.pools import Reach

__all__ = ["as_store_error", "for_users", "plain", "store_error", "with_right"]

_CLASSES: tuple[tuple[type[Exception], str], ...] = (
    (AuthenticationError, "password"),
    (NoPermissionError, "rights"),
    (ReadOnlyError, "read_only"),
    (OutOfMemoryError, "full"),
    (BusyLoadingError, "loading"),
)
_CODES = {
    "NOAUTH": "password",
    "WRONGPASS": "password",
    "unauthenticated": "password",
    "NOPERM": "rights",
    "has no permissions": "rights",
    "can't run this command": "rights",
    "No permissions to": "rights",
    "can't access at least": "rights",
    "READONLY": "read_only",
    "MISCONF": "read_only",
    "OOM": "full",
    "LOADING": "loading",
}
"""Errors inside a script; redis-py has classes only for those of a command."""

_SCRIPT = re.compile(
    r"^((ERR )?Error running script .*)?@user_script: ?\d+: -?|(ERR )?ACL failure in script: "
    r"|,? ?script: .*on @user_script.*$"
)
"""The place of an error in a script, which is of no use to people."""

_ARGUMENTS = re.compile(r",? with args beginning with:.*$", re.DOTALL)
"""The arguments, up to 128 bytes of each. A server adds them if it doesn't know a command, which may be AUTH."""

_ANY_CODE = re.compile(rf"\b({'|'.join(_CODES)})\b")


def plain(words: str) -> str:
    """Shorten a server's message about a script's error to what people need."""
    return _SCRIPT.sub("", " ".join(_ARGUMENTS.sub("", words).split()))[:200].rstrip(". ")


def with_right(refusal: str, command: str, channels: str) -> str:
    """Add the missing right, as a rule of Redis's ACL, to the message of a refused subscription or notice.

    Args:
        refusal: the server's message.
        command: the right to run the command.
        channels: the right to use the channel.
    """
    return f"{refusal}; its user needs {channels if 'channel' in refusal else command}"


@contextmanager
def as_store_error(address: str, timeout: float, reach: Reach | None = None) -> Generator[None]:
    """Convert what a block raises, as `for_users` does."""
    try:
        yield
    except Exception as exc:
        failure = for_users(exc, address, timeout, reach=reach)
        if failure is exc:
            raise
        raise failure from exc


def for_users(
    exc: Exception, address: str, timeout: float, *, deadline: Deadline | None = None, reach: Reach | None = None
) -> Exception:
    """Return an error of redis-py or of the system as a `StoreError`, and other errors as they are. Masks passwords.

    Args:
        exc: the error; passwords are masked in its causes too.
        address: of the server, for people.
        timeout: the command's seconds.
        deadline: the command's, which shows how far it got.
        reach: the server, if the command may log in there: a server that does not know AUTH repeats its arguments.
    """
    mask_chain(exc, reach.secrets if reach is not None else ())
    if not isinstance(exc, (redis.RedisError, OSError)):
        return exc
    error = store_error(exc, address, timeout)
    told = deadline.explanation() if deadline is not None and error.kind == "timeout" else ""
    return StoreError(told, error.kind, address) if told else error


def store_error(exc: BaseException, address: str, timeout: float) -> StoreError:
    """Convert an error of redis-py or of the system to a `StoreError` for users, which names the address once.

    Args:
        exc: the error.
        address: of the server, for people.
        timeout: the command's seconds.
    """
    chain = list(_causes(exc))
    words = plain(str(exc))
    kind = _refusal(exc, words)
    if kind is not None:
        return StoreError(words, kind, address)
    slow = next((each for each in chain if isinstance(each, SlowCallError)), None)
    if slow is not None:
        return StoreError(str(slow), "timeout", address)
    if any(isinstance(each, (TimeoutError, redis.TimeoutError)) for each in chain):
        return StoreError(f"no answer within {timeout:g} s", "timeout", address)
    system = next((each for each in reversed(chain) if isinstance(each, OSError) and each.strerror), None)
    if system is not None:
        return StoreError(f"{system.strerror}".lower(), "unreachable", address)
    unreachable = isinstance(exc, redis.ConnectionError)
    return StoreError(words if unreachable else f"{type(exc).__name__}: {words}", _kind(unreachable), address)


def _kind(unreachable: bool) -> str:  # noqa: FBT001 - it names what it is
    return "unreachable" if unreachable else "failed"


def _refusal(exc: BaseException, words: str) -> str | None:
    """Return the kind of a refusal; None if the error is none."""
    for kind, name in _CLASSES:
        if isinstance(exc, kind):
            return name
    code = _ANY_CODE.search(words) if isinstance(exc, ResponseError) else None
    return _CODES[code[1]] if code is not None else None


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__
