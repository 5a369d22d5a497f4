"""What a cache is made of, and what is refused: in the constructor, with the value and what it should be."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import redis
import redis.asyncio
from posthog.flag_definition_cache import FlagDefinitionCacheProvider

from flagcache import (
    ConfigurationError,
    FlagDefinitionCache,
    MemoryFlagDefinitionCache,
    RedisFlagDefinitionCache,
    SqliteFlagDefinitionCache,
    from_url,
)

UNREACHABLE = "redis://127.0.0.1:1/0"
"""Nobody listens there."""

MAKERS: dict[str, Callable[..., FlagDefinitionCache]] = {
    "redis": partial(RedisFlagDefinitionCache, UNREACHABLE),
    "sqlite": partial(SqliteFlagDefinitionCache, "flags.db"),
    "memory": MemoryFlagDefinitionCache,
    "url": partial(from_url, "memory://"),
}

every_cache = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


@every_cache
def test_every_cache_is_the_sdks_provider(make: Callable[..., FlagDefinitionCache]) -> None:
    """As the SDK's own protocol sees it."""
    assert isinstance(make("team"), FlagDefinitionCacheProvider)


@every_cache
@pytest.mark.parametrize("namespace", ["", "  ", None, 7, b"team", "x" * 201])
def test_a_wrong_namespace_is_refused(make: Callable[..., FlagDefinitionCache], namespace: object) -> None:
    """In the constructor, by its name."""
    with pytest.raises(ConfigurationError, match="namespace"):
        make(namespace)


@every_cache
@pytest.mark.parametrize("name", ["refresh_interval", "cold_start_wait", "store_timeout", "lease"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, -math.inf, True, "30", None])
def test_a_wrong_length_of_time_is_refused(make: Callable[..., FlagDefinitionCache], name: str, value: object) -> None:
    """In the constructor, with name and value."""
    with pytest.raises(ConfigurationError, match=name) as caught:
        make("team", **{name: value})
    assert repr(value) in str(caught.value)


@every_cache
def test_an_interval_of_zero_is_refused(make: Callable[..., FlagDefinitionCache]) -> None:
    """It would ask PostHog without a pause."""
    with pytest.raises(ConfigurationError, match=r"refresh_interval must be from 0\.01 to 2592000 seconds, not 0"):
        make("team", refresh_interval=0)


@every_cache
def test_an_unknown_option_is_refused_and_the_known_ones_are_told(make: Callable[..., FlagDefinitionCache]) -> None:
    """A misspelt one is not passed over in silence."""
    with pytest.raises(ConfigurationError, match=r"unknown option 'refresh'.*cold_start_wait.*store_timeout"):
        make("team", refresh=3)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6379", "http://localhost", "rediss", "memcached://h", "redis+tls://h", "REDIS//h", "redis://[::1"],
)
def test_an_unknown_scheme_is_refused(url: str) -> None:
    """And so is what is no URL."""
    with pytest.raises(ConfigurationError):
        from_url(url, "team")


@pytest.mark.parametrize("url", [None, 7, b"redis://localhost", Path("/tmp/flags.db")])
def test_what_is_no_string_is_no_url(url: object) -> None:
    """By its type."""
    with pytest.raises(ConfigurationError, match=type(url).__name__):
        from_url(url, "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite://host/flags.db", "sqlite:///f.db?mode=ro", "sqlite:///f.db#x"]
)
def test_a_wrong_sqlite_url_is_refused(url: str) -> None:
    """The error shows how one is written."""
    with pytest.raises(ConfigurationError, match="sqlite:///relative/path or sqlite:////absolute/path"):
        from_url(url, "team")


@pytest.mark.parametrize("path", ["", None, 7, "flags\0.db", "/"])
def test_a_wrong_path_is_refused(path: object) -> None:
    """Nothing, no path, and a directory."""
    with pytest.raises(ConfigurationError, match="path must name a file"):
        SqliteFlagDefinitionCache(path, "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "client",
    [None, 7, object(), redis.ConnectionPool(), redis.asyncio.Redis(), "localhost:6379", b"redis://localhost"],
    ids=["None", "a number", "an object", "a pool", "an asyncio client", "a host", "bytes"],
)
def test_what_is_no_redis_client_is_refused(client: object) -> None:
    """In the constructor, and not at the first poll."""
    with pytest.raises(ConfigurationError):
        RedisFlagDefinitionCache(client, "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("url", "kind", "store"),
    [
        ("redis://db.example:6380/2", RedisFlagDefinitionCache, "db.example:6380/2"),
        ("rediss://db.example:6380/2", RedisFlagDefinitionCache, "db.example:6380/2"),
        ("unix:///run/redis.sock?db=3", RedisFlagDefinitionCache, "/run/redis.sock"),
        ("sqlite:////var/lib/app/flags%20a.db", SqliteFlagDefinitionCache, "sqlite:///var/lib/app/flags a.db"),
        ("sqlite:///flags.db", SqliteFlagDefinitionCache, f"sqlite://{Path.cwd() / 'flags.db'}"),
        ("memory://", MemoryFlagDefinitionCache, "memory://"),
    ],
)
def test_a_url_names_the_cache(url: str, kind: type[FlagDefinitionCache], store: str) -> None:
    """Each scheme has its cache, and status and repr show where it is."""
    cache = from_url(url, "team", refresh_interval=12, lease=99)
    assert type(cache) is kind
    assert store in cache.status().store
    assert cache.status().store in repr(cache)
