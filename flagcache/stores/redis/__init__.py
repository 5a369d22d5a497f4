"""The store on Redis."""

from __future__ import annotations

from flagcache.stores.redis.store import Keys, RedisStore, keys_of

__all__ = ["Keys", "RedisStore", "keys_of"]
