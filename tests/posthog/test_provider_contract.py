"""Our caches keep the contract of providers, on every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from posthog.version import VERSION

from flagcache import MemoryFlagDefinitionCache, RedisFlagDefinitionCache, SqliteFlagDefinitionCache
from flagcache.settings import Options
from flagcache_posthog.testing import MakeProvider, Outage, OutageContract, ProviderContract
from tests.servers import MakeRedis, RedisServer

SOON = 0.05
"""Seconds between two fetches of a fleet."""

PATIENT = Options(challenge_after=300, store_timeout=0.3)
"""A slow machine neither challenges a leader nor lets its first lease end."""

IMPATIENT = Options(cold_start_wait=0.3, challenge_after=300, store_timeout=0.3)
"""The same, with a wait for the first definitions that ends soon."""


@pytest.fixture(scope="session", autouse=True)
def _tell_the_sdks_version(record_testsuite_property: Callable[[str, object], None]) -> None:
    """Write into the report which SDK this was, for who runs these tests on another one."""
    record_testsuite_property("posthog", VERSION)


class TestMemory(ProviderContract):
    """The clients of one process."""

    @pytest.fixture
    def make_provider(self) -> MakeProvider:
        """Each call makes another cache on this process's own memory."""
        return lambda namespace: MemoryFlagDefinitionCache(namespace, refresh_interval=SOON, **PATIENT)

    @pytest.fixture
    def make_impatient(self) -> MakeProvider:
        """The same, with a short wait."""
        return lambda namespace: MemoryFlagDefinitionCache(namespace, refresh_interval=SOON, **IMPATIENT)


class TestSqlite(ProviderContract):
    """The processes of one machine."""

    @pytest.fixture
    def make_provider(self, tmp_path: Path) -> MakeProvider:
        """Each call makes another cache on one file."""
        path = tmp_path / "flags.db"
        return lambda namespace: SqliteFlagDefinitionCache(path, namespace, refresh_interval=SOON, **PATIENT)

    @pytest.fixture
    def make_impatient(self, tmp_path: Path) -> MakeProvider:
        """The same, with a short wait."""
        path = tmp_path / "flags.db"
        return lambda namespace: SqliteFlagDefinitionCache(path, namespace, refresh_interval=SOON, **IMPATIENT)


class TestRedis(ProviderContract):
    """The processes that reach one Redis."""

    @pytest.fixture
    def make_provider(self, redis_server: RedisServer) -> MakeProvider:
        """Each call makes another cache on one server."""
        return _on(redis_server, PATIENT)

    @pytest.fixture
    def make_impatient(self, redis_server: RedisServer) -> MakeProvider:
        """The same, with a short wait."""
        return _on(redis_server, IMPATIENT)


class TestRedisAway(OutageContract):
    """A Redis that stops answering without a word, and goes on where it was."""

    @pytest.fixture
    def server(self, make_redis: MakeRedis) -> RedisServer:
        """A server to freeze."""
        return make_redis()

    @pytest.fixture
    def make_provider(self, server: RedisServer) -> MakeProvider:
        """Each call makes another cache on that server."""
        return _on(server, PATIENT)

    @pytest.fixture
    def outage(self, server: RedisServer) -> Iterator[Outage]:
        """Freeze and thaw it."""
        yield _Frozen(server)
        server.thaw()


class TestRedisLost(OutageContract):
    """A Redis that refuses connections, and comes back empty."""

    @pytest.fixture
    def server(self, make_redis: MakeRedis) -> RedisServer:
        """A server to kill."""
        return make_redis()

    @pytest.fixture
    def make_provider(self, server: RedisServer) -> MakeProvider:
        """Each call makes another cache on that server."""
        return _on(server, PATIENT)

    @pytest.fixture
    def outage(self, server: RedisServer) -> Outage:
        """Kill it and start it anew."""
        return _Lost(server)


class _Frozen:
    def __init__(self, server: RedisServer) -> None:
        self.begin = server.freeze
        self.end = server.thaw


class _Lost:
    def __init__(self, server: RedisServer) -> None:
        self.begin = server.kill
        self.end = server.start


def _on(server: RedisServer, options: Options) -> MakeProvider:
    return lambda namespace: RedisFlagDefinitionCache(server.url, namespace, refresh_interval=SOON, **options)
