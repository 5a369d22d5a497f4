"""A provider like the one in the SDK's documentation (posthog-python, `examples/`).

It is our own code, and never weaker. The first worker that polls takes a lease of 60 s with one script call and extends
it at each poll; its SDK fetches. All others read the whole JSON at each poll; it is stored for a day. It is stronger in
two points: it also runs on redis-py 8.1, and its Redis client has a timeout of 5 s without retries. With redis-py's
default of ten retries a call would take a minute.
"""

from __future__ import annotations

import json
import uuid
from typing import cast

import redis
from posthog import FlagDefinitionCacheData
from redis.backoff import NoBackoff
from redis.retry import Retry
from typing_extensions import override

from benchmarks.contestants.contestant import Contestant, RecordingPosthog, WorkerConfig, make_client

__all__ = ["BARE", "EXAMPLE", "LeasedCache", "connect"]

_LEASE = 60.0
_KEPT = 24 * 3600

_LEAD = """
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

_LEAVE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def connect(url: str, timeout: float) -> redis.Redis:
    """Make the Redis client of an application, with one attempt and this timeout in seconds."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )


class LeasedCache:
    """A `FlagDefinitionCacheProvider` with a lease and one JSON value.

    Args:
        client: with `decode_responses`.
        namespace: of the fleet.
        lease: seconds for which a leader that stopped renewing keeps the lease.
    """

    def __init__(self, client: redis.Redis, namespace: str, lease: float = _LEASE) -> None:
        self._redis = client
        self._data_key = f"definitions:{namespace}"
        self._lease_key = f"definitions:{namespace}:leader"
        self._lease = round(lease * 1000)
        self._me = uuid.uuid4().hex
        self._lead = client.register_script(_LEAD)
        self._leave = client.register_script(_LEAVE)

    def should_fetch_flag_definitions(self) -> bool:
        """Take or extend the lease."""
        return bool(self._lead(keys=[self._lease_key], args=[self._me, self._lease]))

    def get_flag_definitions(self) -> FlagDefinitionCacheData | None:
        """Read and decode the stored definitions."""
        stored = cast("str | None", self._redis.get(self._data_key))
        return cast("FlagDefinitionCacheData", json.loads(stored)) if stored else None

    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> None:
        """Encode and store the definitions."""
        self.store(data)

    def store(self, data: FlagDefinitionCacheData) -> None:
        """Replace the stored definitions."""
        self._redis.set(self._data_key, json.dumps(data), ex=_KEPT)

    def stored(self) -> bool:
        """Whether any definitions are stored."""
        return bool(self._redis.exists(self._data_key))

    def shutdown(self) -> None:
        """Give up the lease, if it is this process's."""
        self._leave(keys=[self._lease_key], args=[self._me])


class BareReader(LeasedCache):
    """The least work of a process that never fetches: a `GET`, and JSON decoded. Another process fills the store."""

    @override
    def should_fetch_flag_definitions(self) -> bool:
        """Never."""
        return False

    @override
    def shutdown(self) -> None:
        """Nothing: there is no lease to give up."""


def _make_bare(config: WorkerConfig, index: int) -> RecordingPosthog:
    return make_client(config, index, BareReader(connect(config.redis, timeout=5.0), config.namespace))


def _make(config: WorkerConfig, index: int) -> RecordingPosthog:
    return make_client(config, index, LeasedCache(connect(config.redis, timeout=5.0), config.namespace))


BARE = Contestant("bare", "a bare GET and decode", "redis", _make_bare)
EXAMPLE = Contestant("example", "like the SDK's example", "redis", _make)
