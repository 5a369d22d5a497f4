# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""A payload in Redis that is larger than what any process publishes: the server never sends it, and a fleet heals."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import cast

import pytest
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache import RedisFlagDefinitionCache
from flagcache.encoding.codec import Codec
from flagcache.errors import EnvelopeError
from flagcache.events import Event, PayloadRefused
from flagcache.stores.base import LARGEST_PAYLOAD, Meta
from flagcache.stores.redis.store import keys_of
from flagcache_posthog.testing import make_definitions
from tests.support.servers import MakeRedis, RedisServer

HUGE = 300_000_000
WORKERS = 4


@pytest.fixture
def server(make_redis: MakeRedis) -> RedisServer:
    """Start a server of the test's own."""
    return make_redis(tcp=True)


class Fleet:
    """Caches of one namespace, whose application fetches for them when it may."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self.admin = server.client()
        self.key = keys_of(namespace, 0).hash
        self.events: list[Event] = []
        self._server, self._namespace = server, namespace
        self._stack = ExitStack()

    def cache(self, max_decoded_bytes: int = 16 * 1024 * 1024) -> RedisFlagDefinitionCache:
        """Start one more process."""
        cache = RedisFlagDefinitionCache(
            self._server.tcp_url,
            self._namespace,
            fallback=None,
            auto_attach=False,
            cold_start_wait=0,
            on_event=self.events.append,
            max_decoded_bytes=max_decoded_bytes,
        )
        self._stack.callback(cache.shutdown)
        return cache

    def bring(self, cache: RedisFlagDefinitionCache, revision: int) -> FlagDefinitionCacheData:
        """Fetch, as the SDK does."""
        definitions = cast("FlagDefinitionCacheData", make_definitions(3, revision=revision))
        assert cache.should_fetch_flag_definitions()
        cache.on_flag_definitions_received(definitions)
        return definitions

    def plant(self, size: int, *, version: str = "f" * 32) -> None:
        """Put this many bytes in the payload's place, with metadata that are newer than what is stored."""
        self.admin.hset(self.key, mapping={"payload": bytes(size), "size": size, "version": version})
        self.admin.hincrby(self.key, "as_of", 1)

    def sent(self) -> int:
        """Bytes that the server has sent to all its clients."""
        return int(self.admin.info("stats")["total_net_output_bytes"])

    def close(self) -> None:
        """End all."""
        self._stack.close()


@pytest.fixture
def fleet(server: RedisServer, namespace: str) -> Iterator[Fleet]:
    """Start with no process."""
    fleet = Fleet(server, namespace)
    yield fleet
    fleet.close()


def test_a_fleet_heals_from_300_mb_under_its_key(fleet: Fleet) -> None:
    """The server sends none of it, its memory is given back, and a holder brings the definitions back."""
    first, *others = [fleet.cache() for _ in range(WORKERS)]
    definitions = fleet.bring(first, 1)
    fleet.plant(HUGE)
    before = fleet.sent()
    for cache in [*others, first, *others]:
        assert not cache.should_fetch_flag_definitions()
    assert [cache.get_flag_definitions() for cache in others] == [definitions] * len(others)
    assert fleet.sent() - before < 100_000
    assert 0 < int(fleet.admin.hstrlen(fleet.key, "payload") or 0) < 100_000
    assert not [event for event in fleet.events if isinstance(event, PayloadRefused)]


@pytest.mark.parametrize("size", [0, LARGEST_PAYLOAD + 1])
def test_its_memory_is_given_back(fleet: Fleet, size: int) -> None:
    """The first poll of a worker frees its memory, whether it holds anything or not, whatever the metadata say."""
    fleet.plant(LARGEST_PAYLOAD + 1)
    fleet.admin.hset(fleet.key, "size", size)
    assert fleet.cache().should_fetch_flag_definitions()
    assert fleet.admin.hstrlen(fleet.key, "payload") == 0


@pytest.mark.parametrize("field", ["etag", "holder", "failures", "replaced_at"])
def test_a_field_that_no_process_writes_is_removed(fleet: Fleet, field: str) -> None:
    """Every script would read its ten megabytes again: the first poll removes it, and the definitions are back."""
    first, other = fleet.cache(), fleet.cache()
    definitions = fleet.bring(first, 1)
    fleet.admin.hset(fleet.key, field, b"9" * 10_000_000)
    before = fleet.sent()
    for cache in (other, first, other):
        assert not cache.should_fetch_flag_definitions()
    assert int(fleet.admin.hstrlen(fleet.key, field) or 0) < 1000
    assert other.get_flag_definitions() == definitions
    assert fleet.sent() - before < 100_000


@pytest.mark.parametrize("size", [0, 7, LARGEST_PAYLOAD + 1])
def test_a_false_size_changes_nothing(fleet: Fleet, size: int) -> None:
    """What is not of the size that its metadata say counts as absent, and is given back if it is too large."""
    first, other = fleet.cache(), fleet.cache()
    definitions = fleet.bring(first, 1)
    fleet.plant(HUGE)
    fleet.admin.hset(fleet.key, "size", size)
    before = fleet.sent()
    for cache in (other, first, other):
        assert not cache.should_fetch_flag_definitions()
    assert other.get_flag_definitions() == definitions
    assert fleet.sent() - before < 100_000


def test_what_is_larger_than_a_worker_takes_is_left_to_the_others(fleet: Fleet) -> None:
    """Between a worker's own limit and what any process publishes nothing is sent to it, and nothing is deleted."""
    first, small = fleet.cache(), fleet.cache(max_decoded_bytes=1024)
    fleet.bring(first, 1)
    fleet.plant(1_000_000)
    before = fleet.sent()
    for _ in range(3):
        small.should_fetch_flag_definitions()  # for itself
    assert fleet.sent() - before < 100_000
    assert fleet.admin.hstrlen(fleet.key, "payload") == 1_000_000
    [refused] = [event for event in fleet.events if isinstance(event, PayloadRefused)]
    assert refused.kept
    assert "larger than the 2176 bytes" in str(refused)


def test_a_smaller_payload_of_the_same_version_is_read(fleet: Fleet) -> None:
    """A worker that was not sent the large payload reads the small one at its next poll, without a notice."""
    first, second = fleet.cache(), fleet.cache()
    definitions = fleet.bring(first, 1)
    payload = cast("bytes", fleet.admin.hget(fleet.key, "payload"))
    version = cast("bytes", fleet.admin.hget(fleet.key, "version")).decode()
    fleet.plant(LARGEST_PAYLOAD // 2, version=version)
    assert second.should_fetch_flag_definitions()  # for itself
    fleet.admin.hset(fleet.key, mapping={"payload": payload, "size": len(payload)})
    assert not second.should_fetch_flag_definitions()
    assert second.get_flag_definitions() == definitions


def test_the_largest_definitions_that_are_allowed_pass(fleet: Fleet) -> None:
    """As large as the default allows, and not to be compressed, they reach another process within `store_timeout`."""
    first, second = fleet.cache(), fleet.cache()
    definitions: dict[str, object] = {**make_definitions(1), "text": _incompressible(15_900_000)}
    assert first.should_fetch_flag_definitions()
    first.on_flag_definitions_received(cast("FlagDefinitionCacheData", definitions))
    assert int(fleet.admin.hstrlen(fleet.key, "payload") or 0) > 11_000_000
    assert not second.should_fetch_flag_definitions()
    assert second.get_flag_definitions() == definitions


def test_no_process_publishes_what_others_would_drop() -> None:
    """Definitions of more than `LARGEST_PAYLOAD` stored bytes are never published, whatever `max_decoded_bytes` is."""
    codec = Codec("team", limit=2**32 - 1)
    assert codec.largest == LARGEST_PAYLOAD
    with pytest.raises(EnvelopeError, match="the limit is 67108864"):
        codec.write({"flags": [], "text": _incompressible(90_000_000)}, Meta("v", 0, 1, 1, 1))


def _incompressible(length: int) -> str:
    """Text of which zlib makes three quarters."""
    return base64.b64encode(os.urandom(length // 4 * 3)).decode()
