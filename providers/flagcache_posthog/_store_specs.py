"""How each process opens its stores: the one that its fleet shares, and the fallbacks."""

from __future__ import annotations

import os
import random
from functools import partial
from typing import TYPE_CHECKING

from flagcache.encoding.codec import label_of
from flagcache.encoding.protection import Protection
from flagcache.errors import ConfigurationError
from flagcache.settings import Settings, milliseconds
from flagcache.stores.fallback import AUTO, Fallback, fallback_specs
from flagcache.stores.memory import MemoryStore
from flagcache.stores.spec import StoreSpec, missing_for_sqlite
from flagcache_posthog._options import checked_path

if TYPE_CHECKING:
    import redis

    from flagcache.stores.redis.address import RedisTarget
    from flagcache.stores.redis.store import RedisStore
    from flagcache.stores.sqlite.store import SqliteStore

__all__ = ["process_memory_spec", "redis_spec", "redis_stores", "refuse_expiry", "sqlite_spec"]


def redis_stores(
    source: redis.Redis | redis.RedisCluster | RedisTarget | str,
    namespace: str,
    fallback: Fallback,
    settings: Settings,
    protection: Protection,
) -> tuple[StoreSpec, ...]:
    """Return how a process opens its stores if the fleet's store is Redis, in the order of use.

    Args:
        source: the Redis server.
        namespace: the fleet's namespace.
        fallback: the user's option.
        settings: the cache's settings.
        protection: of the stored definitions.

    Raises:
        ConfigurationError: `source` or `fallback` is invalid.
    """
    if settings.reads_only and fallback == AUTO:
        fallback = None  # a reader has nothing to coordinate, and often no persistent disk
    shared, fingerprint = redis_spec(source, namespace, settings, protection)
    timeout, label = settings.store_timeout, label_of(protection)
    on_disk = fallback_specs(fallback, fingerprint, namespace, timeout=timeout, format_and_protection=label)
    return shared, *on_disk, process_memory_spec()


def redis_spec(
    source: redis.Redis | redis.RedisCluster | RedisTarget | str,
    namespace: str,
    settings: Settings,
    protection: Protection,
) -> tuple[StoreSpec, str]:
    """Return how a store on Redis is opened, and the fingerprint of its server and database.

    Raises:
        ConfigurationError: the client or URL is invalid.
    """
    from flagcache.stores.redis.reader import RedisReaderStore  # noqa: PLC0415 - imported only if Redis is used
    from flagcache.stores.redis.store import RedisStore  # noqa: PLC0415 - likewise

    def make(kind: type[RedisStore]) -> RedisStore:
        return kind(
            *(source, namespace),
            timeout=settings.store_timeout,
            format_and_protection=label_of(protection),
            forget_after=milliseconds(settings.forget_after) if settings.forget_after else 0,
        )

    known = make(RedisStore)
    lead, read = partial(make, RedisStore), partial(make, RedisReaderStore)
    return StoreSpec(known.address, read if settings.reads_only else lead, lead), known.fingerprint


def sqlite_spec(path: str | os.PathLike[str], namespace: str, settings: Settings, protection: Protection) -> StoreSpec:
    """Return how a store in a file is opened.

    Raises:
        ConfigurationError: the path is invalid, or this system lacks what an SQLite store needs.
    """
    if missing := missing_for_sqlite():
        raise ConfigurationError(
            f"SqliteFlagDefinitionCache cannot work on this system: {missing}; use RedisFlagDefinitionCache, or"
            " MemoryFlagDefinitionCache for one process"
        )
    from flagcache.stores.sqlite.reader import SqliteReaderStore  # noqa: PLC0415 - needs SQLite
    from flagcache.stores.sqlite.store import SqliteStore  # noqa: PLC0415 - likewise

    file = checked_path(path)
    refuse_expiry(settings)

    def make(kind: type[SqliteStore]) -> SqliteStore:
        return kind(file, namespace, timeout=settings.store_timeout, format_and_protection=label_of(protection))

    lead, read = partial(make, SqliteStore), partial(make, SqliteReaderStore)
    return StoreSpec(f"sqlite://{file}", read if settings.reads_only else lead, lead)


def refuse_expiry(settings: Settings) -> None:
    """Refuse `forget_after` for a store without a time to live.

    Raises:
        ConfigurationError: `forget_after` is set.
    """
    if settings.forget_after:
        raise ConfigurationError(
            f"forget_after={settings.forget_after!r}: only a cache on Redis deletes its namespace by itself"
        )


def process_memory_spec() -> StoreSpec:
    """Return the last fallback: a process without any other store fetches for itself, at a slower and random pace."""
    return StoreSpec("this process alone", MemoryStore, pace=random.uniform(2, 3), private=True)
