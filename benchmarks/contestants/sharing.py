"""flagcache, by the SDK's protocol only and attached, on Redis and on a file; with defaults except the interval."""

from __future__ import annotations

from typing_extensions import Unpack

from benchmarks.contestants.contestant import Contestant, Place, WatchedPosthog, make_client
from flagcache.settings import Options
from flagcache_posthog import FlagDefinitionCache, RedisFlagDefinitionCache, SqliteFlagDefinitionCache

__all__ = ["ATTACHED", "ATTACHED_SQLITE", "PROTOCOL", "PROTOCOL_SQLITE", "READER"]


def _on_redis(place: Place, **options: Unpack[Options]) -> FlagDefinitionCache:
    return RedisFlagDefinitionCache(
        place.redis, place.namespace, refresh_interval=place.interval, fallback=place.directory, **options
    )


def _on_sqlite(place: Place, **options: Unpack[Options]) -> FlagDefinitionCache:
    return SqliteFlagDefinitionCache(
        f"{place.directory}/flags.db", place.namespace, refresh_interval=place.interval, **options
    )


def _protocol(place: Place, index: int) -> WatchedPosthog:
    return make_client(place, index, _on_redis(place, auto_attach=False))


def _attached(place: Place, index: int) -> WatchedPosthog:
    return make_client(place, index, _on_redis(place))


def _protocol_sqlite(place: Place, index: int) -> WatchedPosthog:
    return make_client(place, index, _on_sqlite(place, auto_attach=False))


def _attached_sqlite(place: Place, index: int) -> WatchedPosthog:
    return make_client(place, index, _on_sqlite(place))


def _reader(place: Place, index: int) -> WatchedPosthog:
    cache = RedisFlagDefinitionCache(place.redis, place.namespace, refresh_interval=place.interval, role="reader")
    return make_client(place, index, cache)


PROTOCOL = Contestant("protocol", "flagcache, protocol alone", "redis", _protocol, ours=True)
ATTACHED = Contestant("attached", "flagcache, attached", "redis", _attached, ours=True)
PROTOCOL_SQLITE = Contestant("protocol-sqlite", "flagcache, protocol, SQLite", "sqlite", _protocol_sqlite, ours=True)
ATTACHED_SQLITE = Contestant("attached-sqlite", "flagcache, attached, SQLite", "sqlite", _attached_sqlite, ours=True)
READER = Contestant("reader", "flagcache, reader", "redis", _reader, ours=True)
