"""The arguments of a cache: a wrong one is refused in the constructor, with the value and what is expected."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast, get_type_hints

import pytest
import redis
import redis.asyncio
from posthog.flag_definition_cache import FlagDefinitionCacheProvider

from flagcache import (
    AsyncRedisFlagDefinitionCache,
    ConfigurationError,
    FlagDefinitionCache,
    MemoryFlagDefinitionCache,
    RedisFlagDefinitionCache,
    SqliteFlagDefinitionCache,
    from_url,
)
from flagcache.settings import Options, Settings
from flagcache_posthog.refresher import Project, Refresher

UNREACHABLE = "redis://127.0.0.1:1/0"
"""An address at which no server listens."""

MAKERS: dict[str, Callable[..., FlagDefinitionCache]] = {
    "redis": partial(RedisFlagDefinitionCache, UNREACHABLE),
    "sqlite": partial(SqliteFlagDefinitionCache, "flags.db"),
    "memory": MemoryFlagDefinitionCache,
    "url": partial(from_url, "memory://"),
}

EVERY_KIND = [
    AsyncRedisFlagDefinitionCache,
    MemoryFlagDefinitionCache,
    RedisFlagDefinitionCache,
    SqliteFlagDefinitionCache,
    from_url,
]

DEFAULTS = {field.name: field.default for field in dataclasses.fields(Settings)}

every_cache = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


@every_cache
def test_every_cache_is_the_sdks_provider(make: Callable[..., FlagDefinitionCache]) -> None:
    """Every cache is an instance of the SDK's own protocol."""
    assert isinstance(make("team"), FlagDefinitionCacheProvider)


@every_cache
@pytest.mark.parametrize("namespace", ["", "  ", None, 7, b"team", "x" * 201])
def test_a_wrong_namespace_is_refused(make: Callable[..., FlagDefinitionCache], namespace: object) -> None:
    """The constructor refuses a wrong namespace and names it."""
    with pytest.raises(ConfigurationError, match="namespace"):
        make(namespace)


@every_cache
@pytest.mark.parametrize("name", ["refresh_interval", "cold_start_wait", "store_timeout", "lease"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, -math.inf, True, "30"])
def test_a_wrong_length_of_time_is_refused(make: Callable[..., FlagDefinitionCache], name: str, value: object) -> None:
    """The constructor refuses a wrong length of time with its name and value."""
    with pytest.raises(ConfigurationError, match=name) as caught:
        make("team", **{name: value})
    assert repr(value) in str(caught.value)


@every_cache
def test_an_interval_of_zero_is_refused(make: Callable[..., FlagDefinitionCache]) -> None:
    """An interval of zero is refused, because it would ask PostHog without a pause."""
    with pytest.raises(ConfigurationError, match=r"refresh_interval must be from 0\.01 to 2592000 seconds, not 0"):
        make("team", refresh_interval=0)


@every_cache
def test_an_unknown_option_is_refused_and_the_known_ones_are_told(make: Callable[..., FlagDefinitionCache]) -> None:
    """A misspelt option is refused, and the error lists the known ones."""
    with pytest.raises(ConfigurationError, match=r"unknown option 'refresh'.*cold_start_wait.*store_timeout"):
        make("team", refresh=3)


@every_cache
def test_an_unknown_option_is_answered_by_all_and_the_nearest(make: Callable[..., FlagDefinitionCache]) -> None:
    """The error for an unknown option lists all options, also those that are no settings, and the nearest one."""
    with pytest.raises(ConfigurationError, match="did you mean 'on_event'") as caught:
        make("team", on_events=print)
    options = str(caught.value).partition("There are: ")[2].split(", ")
    known = {*Options.__annotations__, "refresh_interval", "on_event"}
    assert options == sorted(options)
    assert set(options) - {"fallback"} == known


@pytest.mark.parametrize("cache", EVERY_KIND, ids=lambda kind: kind.__name__)
def test_every_option_is_a_keyword_of_its_own(cache: Callable[..., object]) -> None:
    """`help()`, editors and `typing.get_type_hints` show each option, with the type and default of its setting."""
    parameters = inspect.signature(cache).parameters
    hints = get_type_hints(vars(cache).get("__init__", cache))
    for name, kind in get_type_hints(Options).items():
        assert hints[name] == kind
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default == DEFAULTS.get(name)
    assert not [each for each in parameters.values() if each.kind is inspect.Parameter.VAR_KEYWORD]
    assert "store_timeout: 'float' = 1.0" in str(inspect.signature(cache))


@every_cache
@pytest.mark.parametrize("subscriber", ["print", 7, [print]])
def test_what_cannot_be_called_is_no_subscriber(make: Callable[..., FlagDefinitionCache], subscriber: object) -> None:
    """An `on_event` that can't be called is refused at once, and not logged at each event."""
    with pytest.raises(ConfigurationError, match="on_event must be a function"):
        make("team", on_event=subscriber)


def test_a_refresher_answers_an_unknown_option_likewise() -> None:
    """A refresher also names the nearest option."""
    project = Project("phc_x", "phs_x", "http://127.0.0.1:1")
    make = cast("Callable[..., object]", Refresher)
    with pytest.raises(ConfigurationError, match="unknown option 'store_timeot'; did you mean 'store_timeout'"):
        make(UNREACHABLE, "team", project, store_timeot=3)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6379", "http://localhost", "rediss", "memcached://h", "redis+tls://h", "REDIS//h", "redis://[::1"],
)
def test_an_unknown_scheme_is_refused(url: str) -> None:
    """An unknown scheme is refused, and so is a text that is no URL."""
    with pytest.raises(ConfigurationError):
        from_url(url, "team")


@pytest.mark.parametrize("url", [None, 7, b"redis://localhost", Path("/tmp/flags.db")])
def test_what_is_no_string_is_no_url(url: object) -> None:
    """A URL that is no string is refused with its type."""
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
    """An empty path, a value that is no path, and a directory are refused."""
    with pytest.raises(ConfigurationError, match="path must name a file"):
        SqliteFlagDefinitionCache(path, "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("path", ["~nobody-of-this-name/flags.db", "x" * 300])
def test_a_path_that_the_system_refuses_is_our_error(path: str) -> None:
    """A path that the system refuses raises our error with the reason, and not the system's own."""
    with pytest.raises(ConfigurationError, match=r"path .* cannot be used: (File name too long|Could not determine)"):
        SqliteFlagDefinitionCache(path, "team")


@pytest.mark.parametrize(
    "client",
    [None, 7, object(), redis.ConnectionPool(), redis.asyncio.Redis(), "localhost:6379", b"redis://localhost"],
    ids=["None", "a number", "an object", "a pool", "an asyncio client", "a host", "bytes"],
)
def test_what_is_no_redis_client_is_refused(client: object) -> None:
    """The constructor refuses what is no Redis client, and not the first poll."""
    with pytest.raises(ConfigurationError):
        RedisFlagDefinitionCache(client, "team")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class _FakeConnection(redis.Connection):
    """What fakeredis puts into a pool."""


_FakeConnection.__module__ = "fakeredis._connection"


def _stranger(module: str, name: str) -> object:
    """A client of another library."""
    return type(name, (), {"__module__": module})()


@pytest.mark.parametrize("cache", [RedisFlagDefinitionCache, AsyncRedisFlagDefinitionCache])
@pytest.mark.parametrize(
    ("client", "remedy"),
    [
        (_stranger("fakeredis._server", "FakeRedis"), "in tests use MemoryFlagDefinitionCache"),
        (redis.Redis(connection_pool=redis.ConnectionPool(connection_class=_FakeConnection)), "MemoryFlagDefinition"),
        (_stranger("redis.multidb.client", "MultiDBClient"), "the client or the URL of one of them"),
        (_stranger("valkey.client", "Valkey"), "give its valkey:// URL"),
    ],
    ids=["FakeRedis", "a fake connection", "MultiDBClient", "Valkey"],
)
def test_what_people_try_is_refused_by_name(cache: Callable[..., object], client: object, remedy: str) -> None:
    """Clients that users may try are refused by name, with what to do instead."""
    with pytest.raises(ConfigurationError, match=remedy) as caught:
        cache(client, "team")
    assert type(client).__name__ in str(caught.value)


@pytest.mark.parametrize("prefix", ["redis", "REDIS", "Redis", "valkey", "VALKEY"])
def test_a_valkey_is_a_redis_by_another_name(prefix: str) -> None:
    """One server has one address and one fallback store, however its URL is spelt."""
    store = from_url("redis://db.example:6380/2", "team").status().store
    assert from_url(f"{prefix}://db.example:6380/2", "team").status().store == store
    assert RedisFlagDefinitionCache(f"{prefix}://db.example:6380/2", "team").status().store == store
    assert from_url("valkeys://db.example:6380/2", "team").status().store.startswith("rediss://")


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


@pytest.mark.parametrize("scheme", ["redis+sentinel", "valkey+sentinel", "REDISS+cluster", "valkeys+cluster", "valkey"])
def test_from_url_takes_urls_of_sentinels_and_clusters(scheme: str, namespace: str) -> None:
    """`from_url` also takes the URLs that redis-py lacks, as everything that takes a URL does."""
    path = "/mymaster/0" if "sentinel" in scheme else ""
    cache = from_url(f"{scheme}://a:1,[::1]:2{path}" if "+" in scheme else f"{scheme}://a", namespace, fallback=None)
    assert cache.status().store.startswith("redis")
    cache.shutdown()
