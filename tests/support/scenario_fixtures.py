"""The fixtures `server` and `backends`, for scenarios whose fleet has its own Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from flagcache_posthog.testing import RemoteStandIn
from tests.support.scenario import Backends
from tests.support.servers import MakeRedis, RedisServer

__all__ = ["backends", "server"]


@pytest.fixture
def server(make_redis: MakeRedis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RedisServer:
    """The scenario's own Redis, and its own directory for what a fleet keeps on disk."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return make_redis()


@pytest.fixture
def backends(posthog: RemoteStandIn, server: RedisServer, namespace: str) -> Backends:
    """The backends of a fleet on Redis."""
    return Backends(posthog, server.url, namespace)
