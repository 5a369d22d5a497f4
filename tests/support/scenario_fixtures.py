"""The fixtures `server` and `place`, for scenarios whose fleet has its own Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from flagcache_posthog.testing import RemoteStandIn
from tests.support.scenario import Place
from tests.support.servers import MakeRedis, RedisServer

__all__ = ["place", "server"]


@pytest.fixture
def server(make_redis: MakeRedis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RedisServer:
    """The scenario's own Redis, and its own place for what a fleet keeps on disk."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return make_redis()


@pytest.fixture
def place(posthog: RemoteStandIn, server: RedisServer, namespace: str) -> Place:
    """The place of a fleet on Redis."""
    return Place(posthog, server.url, namespace)
