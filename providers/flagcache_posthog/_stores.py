"""How each process opens the store that its fleet shares."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flagcache.codec import label_of
from flagcache.protection import Protection
from flagcache.settings import Settings
from flagcache.tiers import StoreSpec
from flagcache_posthog._arguments import checked_path

if TYPE_CHECKING:
    import redis

    from flagcache.stores.redis import RedisStore
    from flagcache.stores.sqlite import SqliteStore

__all__ = ["redis_spec", "sqlite_spec"]


def redis_spec(
    redis: redis.Redis | redis.RedisCluster | str, namespace: str, settings: Settings, protection: Protection
) -> tuple[StoreSpec, str]:
    """Return how a store on Redis is opened, and the fingerprint of its server and database.

    Raises:
        ConfigurationError: the client or URL cannot be right.
    """
    from flagcache.stores.redis import RedisStore  # noqa: PLC0415 - only who uses Redis pays for its import

    def make() -> RedisStore:
        return RedisStore(redis, namespace, timeout=settings.store_timeout, format_and_protection=label_of(protection))

    known = make()
    return StoreSpec(known.address, make), known.fingerprint


def sqlite_spec(path: str | os.PathLike[str], namespace: str, settings: Settings, protection: Protection) -> StoreSpec:
    """Return how a store in a file is opened.

    Raises:
        ConfigurationError: the path cannot be right.
    """
    from flagcache.stores.sqlite import SqliteStore  # noqa: PLC0415 - only who uses SQLite pays for its import

    file = checked_path(path)

    def make() -> SqliteStore:
        return SqliteStore(file, namespace, timeout=settings.store_timeout, format_and_protection=label_of(protection))

    return StoreSpec(f"sqlite://{file}", make)
