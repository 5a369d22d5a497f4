"""Uses of the public API that both type checkers must refuse. Never run.

Each checker reads its own comment. When one no longer refuses a line, its comment is unused, and that is an error.
"""

from __future__ import annotations

import redis
import redis.asyncio
from flask import Flask
from posthog import Posthog
from posthog.flag_definition_cache import FlagDefinitionCacheData

import flagcache
from flagcache import (
    AsyncRedisFlagDefinitionCache,
    FlagDefinitionCache,
    MemoryFlagDefinitionCache,
    RedisFlagDefinitionCache,
    SqliteFlagDefinitionCache,
    Status,
    from_url,
)
from flagcache.events import StoreLost
from flagcache_posthog.flask import init_flags
from flagcache_posthog.openfeature import FlagcacheProvider
from flagcache_posthog.testing import override_flags


def what_is_no_event(lost: StoreLost) -> None:
    """A field too few, too many, of a wrong type; and one that is changed."""
    StoreLost("team")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    StoreLost("team", "redis://db", "timed out", "", "", 0.0, "x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    StoreLost("team", store=6379, reason="timed out")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    lost.reason = "none"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def what_is_no_client() -> None:
    """Nothing, an asyncio client, a host and its port, bytes."""
    RedisFlagDefinitionCache(None, "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RedisFlagDefinitionCache(redis.asyncio.Redis(), "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RedisFlagDefinitionCache(("localhost", 6379), "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RedisFlagDefinitionCache(b"redis://localhost", "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def what_is_no_asyncio_client() -> None:
    """Nothing, a synchronous client."""
    AsyncRedisFlagDefinitionCache(None, "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AsyncRedisFlagDefinitionCache(redis.Redis(), "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def what_is_not_awaited(cache: AsyncRedisFlagDefinitionCache) -> bool:
    """An awaitable that is not awaited, and one that is used as its result."""
    cache.shutdown()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    return cache.should_fetch_flag_definitions()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def what_is_no_namespace() -> None:
    """None at all, nothing, a number."""
    MemoryFlagDefinitionCache()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MemoryFlagDefinitionCache(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RedisFlagDefinitionCache("redis://localhost", 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def what_is_no_place() -> None:
    """A number for a path, a path for a URL."""
    SqliteFlagDefinitionCache(7, "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    from_url(b"memory://", "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def what_is_no_option() -> None:
    """A misspelt name, a wrong type, an argument by its place."""
    MemoryFlagDefinitionCache("team", refresh=30)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MemoryFlagDefinitionCache("team", refresh_interval="30")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryFlagDefinitionCache("team", role="leader")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    from_url("memory://", "team", store_timeout=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryFlagDefinitionCache("team", 30)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def what_a_provider_does_not_take(cache: FlagDefinitionCache, data: FlagDefinitionCacheData) -> None:
    """No definitions, and an answer that may be none where definitions are needed."""
    cache.on_flag_definitions_received(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    data = cache.get_flag_definitions()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    cache.on_flag_definitions_received(data)


def what_a_status_does_not_allow(status: Status) -> float:
    """It is not to be changed, and an age may be none."""
    status.version = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    return status.age  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def what_no_flag_is() -> None:
    """A number for a value, and one key where many are taken."""
    override_flags({"price": 1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    override_flags({}, allow_unknown=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def what_gives_no_flags(client: Posthog, app: Flask, cache: FlagDefinitionCache) -> None:
    """Another word for `remote`, a list for a mapping, and a provider without its cache."""
    init_flags(app, client, remote="always")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    init_flags(app, client, groups=["company"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    FlagcacheProvider(client)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    FlagcacheProvider(cache, client)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def what_is_not_there() -> None:
    """A name that the front door does not have."""
    flagcache.Coordinator  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
