"""Fixtures of the tests with signed and sealed fleets: a PostHog in a process of its own, and each shared store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flagcache_posthog.testing import PostHogStandIn, RemoteStandIn, make_definitions
from tests.servers import RedisServer


@pytest.fixture
def posthog() -> Iterator[RemoteStandIn]:
    """A PostHog for one test; at revision 1."""
    standin = PostHogStandIn.spawn(make_definitions(5))
    yield standin
    standin.stop()


@pytest.fixture(params=["redis", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store that processes can share, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'flags.db'}"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url
