"""Fixtures for tests with attached clients: a Redis, and contexts in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.attached_clients import AttachedContext
from tests.support.servers import RedisServer


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of a Redis."""
    return redis_server.url


@pytest.fixture
def here() -> Iterator[Callable[[AttachedContext], AttachedContext]]:
    """Makes sure that a context made in this very process is shut down when the test ends."""
    with ExitStack() as contexts:

        def keep(context: AttachedContext) -> AttachedContext:
            contexts.callback(context.client.shutdown)
            return context

        yield keep
