"""How each process opens its stores: the one that its fleet shares, and those behind it."""

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

__all__ = ["own_memory", "redis_spec", "redis_stores", "refuse_expiry", "sqlite_spec"]


def redis_stores(
    source: redis.Redis | redis.RedisCluster | RedisTarget | str,
    namespace: str,
    fallback: Fallback,
    settings: Settings,
    protection: Protection,
) -> tuple[StoreSpec, ...]:
    """Return how a process opens its stores where the fleet's is a Redis, best first.

    Args:
        source: where the Redis is.
        namespace: of the fleet.
        fallback: as the user said.
        settings: bound what is asked of the stores.
        protection: of what is in them.

    Raises:
        ConfigurationError: `source` or `fallback` cannot be right.
    """
    if settings.reads_only and fallback == AUTO:
        fallback = None  # often it has no disk that lasts, and nothing to coordinate
    shared, fingerprint = redis_spec(source, namespace, settings, protection)
    timeout, label = settings.store_timeout, label_of(protection)
    on_disk = fallback_specs(fallback, fingerprint, namespace, timeout=timeout, format_and_protection=label)
    return shared, *on_disk, own_memory()


def redis_spec(
    source: redis.Redis | redis.RedisCluster | RedisTarget | str,
    namespace: str,
    settings: Settings,
    protection: Protection,
) -> tuple[StoreSpec, str]:
    """Return how a store on Redis is opened, and the fingerprint of its server and database.

    Raises:
        ConfigurationError: the client or URL cannot be right.
    """
    from flagcache.stores.redis.reader import RedisReaderStore  # noqa: PLC0415 - only who uses Redis pays for its import
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
        ConfigurationError: the path cannot be right, or this system lacks what a SQLite store needs.
    """
    if missing := missing_for_sqlite():
        raise ConfigurationError(
            f"SqliteFlagDefinitionCache cannot work on this system: {missing}; take RedisFlagDefinitionCache, or"
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
    """Refuse a time to live where there is none.

    Raises:
        ConfigurationError: there is one.
    """
    if settings.forget_after:
        raise ConfigurationError(f"forget_after={settings.forget_after!r}: only a cache on Redis forgets by itself")


def own_memory() -> StoreSpec:
    """The last resort of a process whose store is away: it fetches for itself, more slowly and out of step."""
    return StoreSpec("this process alone", MemoryStore, pace=random.uniform(2, 3), private=True)
