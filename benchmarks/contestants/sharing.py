"""flagcache, by the SDK's protocol only and attached, on Redis and on a file.

All settings but the interval are defaults.
"""

from __future__ import annotations

from typing_extensions import Unpack

from benchmarks.contestants.contestant import Contestant, RecordingPosthog, WorkerConfig, make_client
from flagcache.settings import Options
from flagcache_posthog import FlagDefinitionCache, RedisFlagDefinitionCache, SqliteFlagDefinitionCache

__all__ = ["ATTACHED", "ATTACHED_SQLITE", "PROTOCOL", "PROTOCOL_SQLITE", "READER"]


def _on_redis(config: WorkerConfig, **options: Unpack[Options]) -> FlagDefinitionCache:
    return RedisFlagDefinitionCache(
        config.redis, config.namespace, refresh_interval=config.interval, fallback=config.directory, **options
    )


def _on_sqlite(config: WorkerConfig, **options: Unpack[Options]) -> FlagDefinitionCache:
    return SqliteFlagDefinitionCache(
        f"{config.directory}/flags.db", config.namespace, refresh_interval=config.interval, **options
    )


def _protocol(config: WorkerConfig, index: int) -> RecordingPosthog:
    return make_client(config, index, _on_redis(config, auto_attach=False))


def _attached(config: WorkerConfig, index: int) -> RecordingPosthog:
    return make_client(config, index, _on_redis(config))


def _protocol_sqlite(config: WorkerConfig, index: int) -> RecordingPosthog:
    return make_client(config, index, _on_sqlite(config, auto_attach=False))


def _attached_sqlite(config: WorkerConfig, index: int) -> RecordingPosthog:
    return make_client(config, index, _on_sqlite(config))


def _reader(config: WorkerConfig, index: int) -> RecordingPosthog:
    cache = RedisFlagDefinitionCache(config.redis, config.namespace, refresh_interval=config.interval, role="reader")
    return make_client(config, index, cache)


PROTOCOL = Contestant("protocol", "flagcache, protocol alone", "redis", _protocol, ours=True)
ATTACHED = Contestant("attached", "flagcache, attached", "redis", _attached, ours=True)
PROTOCOL_SQLITE = Contestant("protocol-sqlite", "flagcache, protocol, SQLite", "sqlite", _protocol_sqlite, ours=True)
ATTACHED_SQLITE = Contestant("attached-sqlite", "flagcache, attached, SQLite", "sqlite", _attached_sqlite, ours=True)
READER = Contestant("reader", "flagcache, reader", "redis", _reader, ours=True)
