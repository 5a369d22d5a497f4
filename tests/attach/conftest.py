"""Fixtures of the tests with attached clients: a PostHog in a process of its own, and each store that can be shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flagcache_posthog.testing import PostHogStandIn, RemoteStandIn, make_definitions
from tests.attach.attached import AttachedSeat
from tests.servers import RedisServer


@pytest.fixture
def posthog() -> Iterator[RemoteStandIn]:
    """A PostHog for one test, which goes on while the test's process stands still; at revision 1."""
    standin = PostHogStandIn.spawn(make_definitions(5))
    yield standin
    standin.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of a Redis."""
    return redis_server.url


@pytest.fixture(params=["redis", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store that processes can share, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'flags.db'}"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
def here() -> Iterator[Callable[[AttachedSeat], AttachedSeat]]:
    """Takes care that a seat made in this very process is shut down when the test ends."""
    with ExitStack() as seats:

        def keep(seat: AttachedSeat) -> AttachedSeat:
            seats.callback(seat.client.shutdown)
            return seat

        yield keep
