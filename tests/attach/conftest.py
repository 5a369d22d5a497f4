"""Fixtures for tests with attached clients: a Redis, and seats in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.attached_clients import AttachedSeat
from tests.support.servers import RedisServer


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of a Redis."""
    return redis_server.url


@pytest.fixture
def here() -> Iterator[Callable[[AttachedSeat], AttachedSeat]]:
    """Takes care that a seat made in this very process is shut down when the test ends."""
    with ExitStack() as seats:

        def keep(seat: AttachedSeat) -> AttachedSeat:
            seats.callback(seat.client.shutdown)
            return seat

        yield keep
