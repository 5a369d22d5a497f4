"""The caches keep the contract of providers, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis.asyncio
from posthog.flag_definition_cache import FlagDefinitionCacheData
from posthog.version import VERSION

from flagcache import (
    AsyncRedisFlagDefinitionCache,
    MemoryFlagDefinitionCache,
    RedisFlagDefinitionCache,
    SqliteFlagDefinitionCache,
)
from flagcache.settings import Options
from flagcache_posthog.testing import MakeProvider, Outage, OutageContract, ProviderContract
from tests.support.in_process_fleet import in_thread
from tests.support.servers import MakeRedis, RedisServer

T = TypeVar("T")

SOON = 0.05
"""Seconds between two fetches of a fleet."""

PATIENT = Options(auto_attach=False, challenge_after=300, store_timeout=0.3)
"""The four methods alone: nothing fetches between two loads. A slow machine neither challenges a leader nor lets its
first lease end."""

IMPATIENT = Options(auto_attach=False, cold_start_wait=0.3, challenge_after=300, store_timeout=0.3)
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


class TestAsyncRedis(ProviderContract):
    """The same, awaited."""

    @pytest.fixture
    def make_provider(self, redis_server: RedisServer) -> MakeProvider:
        """Each call makes another cache on one server."""
        return _awaited_on(redis_server, PATIENT)

    @pytest.fixture
    def make_impatient(self, redis_server: RedisServer) -> MakeProvider:
        """The same, with a short wait."""
        return _awaited_on(redis_server, IMPATIENT)


class TestAsyncRedisOnLoops(ProviderContract):
    """The same, called and awaited by code that runs on event loops."""

    @pytest.fixture
    def make_provider(self, redis_server: RedisServer) -> MakeProvider:
        """Each call makes another cache on one server."""
        make = _awaited_on(redis_server, PATIENT)
        return lambda namespace: _OnLoops(make(namespace))

    @pytest.fixture
    def make_impatient(self, redis_server: RedisServer) -> MakeProvider:
        """The same, with a short wait."""
        make = _awaited_on(redis_server, IMPATIENT)
        return lambda namespace: _OnLoops(make(namespace))


class TestRedisAway(OutageContract):
    """A Redis that stops answering and later continues where it was."""

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
        """Kill it and start it again."""
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


def _awaited_on(server: RedisServer, options: Options) -> Callable[[str], AsyncRedisFlagDefinitionCache]:
    def make(namespace: str) -> AsyncRedisFlagDefinitionCache:
        client = redis.asyncio.Redis.from_url(server.url)
        return AsyncRedisFlagDefinitionCache(client, namespace, refresh_interval=SOON, **options)

    return make


class _OnLoops:
    """Each call is made on a new loop, which runs on the calling thread."""

    def __init__(self, cache: AsyncRedisFlagDefinitionCache) -> None:
        self._cache = cache

    def should_fetch_flag_definitions(self) -> bool:
        """As the cache."""
        return _run(self._cache.should_fetch_flag_definitions)

    def get_flag_definitions(self) -> FlagDefinitionCacheData | None:
        """As the cache."""
        return _run(self._cache.get_flag_definitions)

    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> None:
        """As the cache."""
        _run(lambda: self._cache.on_flag_definitions_received(data))

    def shutdown(self) -> None:
        """As the cache."""
        _run(self._cache.shutdown)


def _run(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def called_and_awaited() -> T:
        return await call()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(called_and_awaited())
    answer = call()  # a case that itself runs a loop here: awaited on another one, as by the SDK
    return in_thread(lambda: asyncio.run(answer))
