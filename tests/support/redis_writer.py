# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""A Redis client that reads and writes a fleet's keys, and has no signing or encryption key."""

from __future__ import annotations

from typing import cast

from flagcache.stores.redis.store import keys_of
from tests.support.servers import RedisServer

__all__ = ["HOUR", "RedisWriter"]

HOUR = 3_600_000
"""Milliseconds."""


class RedisWriter:
    """Reads and writes the keys of one namespace in database 0.

    Args:
        server: its Redis.
        namespace: the fleet's.
        protection: the fleet's: "plain", "signed" or "sealed".
    """

    def __init__(self, server: RedisServer, namespace: str, protection: str) -> None:
        self.redis = server.client()
        self.keys = keys_of(namespace, 0, format_and_protection=f"1-{protection}")

    def fields(self) -> dict[bytes, bytes]:
        """All fields of the hash."""
        return cast("dict[bytes, bytes]", self.redis.hgetall(self.keys.hash))

    def read(self, name: str) -> bytes:
        """A field of the hash; empty if it is not there."""
        return cast("bytes | None", self.redis.hget(self.keys.hash, name)) or b""

    def write(self, **fields: str | bytes | int) -> None:
        """Overwrite fields of the hash."""
        self.redis.hset(self.keys.hash, items=[part for item in fields.items() for part in item])

    def now(self) -> int:
        """The server's clock in milliseconds."""
        seconds, microseconds = self.redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def lead(self, name: str = "forger:1:x", *, lasts: int = HOUR) -> None:
        """Give the lease to a process that does not exist, for this many milliseconds."""
        self.write(lease_length=lasts)
        self.redis.set(self.keys.lease, name, px=lasts)
