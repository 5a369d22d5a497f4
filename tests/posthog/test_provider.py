"""The caches as users meet them: made, shown, refused, and used by one process."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
import redis.asyncio
from posthog import Posthog
from posthog.flag_definition_cache import FlagDefinitionCacheData, FlagDefinitionCacheProvider

import flagcache
from flagcache import (
    ConfigurationError,
    FlagDefinitionCache,
    MemoryFlagDefinitionCache,
    RedisFlagDefinitionCache,
    SqliteFlagDefinitionCache,
    from_url,
)
from flagcache.status import Role
from flagcache_posthog.testing import PostHogStandIn
from tests.servers import MakeRedis, RedisServer

UNREACHABLE = "redis://127.0.0.1:1/0"
"""Nobody listens there."""

DATA = FlagDefinitionCacheData(flags=[{"key": "one"}], group_type_mapping={}, cohorts={})

MAKERS: dict[str, Callable[..., FlagDefinitionCache]] = {
    "redis": lambda namespace="team", **options: RedisFlagDefinitionCache(UNREACHABLE, namespace, **options),
    "sqlite": lambda namespace="team", **options: SqliteFlagDefinitionCache("flags.db", namespace, **options),
    "memory": lambda namespace="team", **options: MemoryFlagDefinitionCache(namespace, **options),
    "url": lambda namespace="team", **options: from_url("memory://", namespace, **options),
}

every_cache = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def python(script: str) -> str:
    """What a script prints in a process of its own that ends in an orderly way."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the front door ---------------------------------------------------------------------------------------------------


def test_the_front_door_has_every_public_name() -> None:
    """Each can be had and is listed; another one is refused as Python does it."""
    for name in flagcache.__all__:
        assert getattr(flagcache, name) is not None
        assert name in dir(flagcache)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = flagcache.Nothing  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # on purpose


def test_the_front_door_is_light() -> None:
    """Importing it loads neither an SDK nor a client library; the first use of a name does."""
    heavy = "[m for m in ('posthog', 'redis', 'sqlite3', 'tenacity') if m in sys.modules]"
    assert python(f"import sys, flagcache; print({heavy})") == "[]\n"
    assert "'posthog'" in python(f"import sys, flagcache; flagcache.from_url; print({heavy})")


def test_a_cache_without_redis_does_not_load_its_client() -> None:
    """Only who uses Redis pays for it."""
    script = "import sys, flagcache; flagcache.MemoryFlagDefinitionCache('a'); print('redis' in sys.modules)"
    assert python(script) == "False\n"


@every_cache
def test_every_cache_is_the_sdks_provider(make: Callable[..., FlagDefinitionCache]) -> None:
    """As the SDK's own protocol sees it."""
    assert isinstance(make(), FlagDefinitionCacheProvider)


# --- arguments --------------------------------------------------------------------------------------------------------


@every_cache
@pytest.mark.parametrize("namespace", ["", "  ", None, 7, b"team", "x" * 201])
def test_a_wrong_namespace_is_refused(make: Callable[..., FlagDefinitionCache], namespace: object) -> None:
    """In the constructor, by its name."""
    with pytest.raises(ConfigurationError, match="namespace"):
        make(namespace)


@every_cache
@pytest.mark.parametrize("name", ["refresh_interval", "cold_start_wait", "store_timeout", "lease"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, -math.inf, True, "30", None])
def test_a_wrong_length_of_time_is_refused(
    make: Callable[..., FlagDefinitionCache], name: str, value: object
) -> None:
    """In the constructor, with name and value."""
    with pytest.raises(ConfigurationError, match=name) as caught:
        make(**{name: value})
    assert repr(value) in str(caught.value)


@every_cache
def test_an_interval_of_zero_is_refused(make: Callable[..., FlagDefinitionCache]) -> None:
    """It would ask PostHog without a pause."""
    with pytest.raises(ConfigurationError, match=r"refresh_interval must be from 0\.01 to 2592000 seconds, not 0"):
        make(refresh_interval=0)


@every_cache
def test_an_unknown_option_is_refused_and_the_known_ones_are_told(make: Callable[..., FlagDefinitionCache]) -> None:
    """A misspelt one is not passed over in silence."""
    with pytest.raises(ConfigurationError, match=r"unknown option 'refresh'.*cold_start_wait.*store_timeout"):
        make(refresh=3)


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


# --- what a constructor does not do -----------------------------------------------------------------------------------


def test_making_a_cache_connects_to_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It can be made before a fork: no connection, no file, no thread."""

    def refuse(*_args: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    threads = threading.active_count()
    path = tmp_path / "flags.db"
    caches = [
        RedisFlagDefinitionCache("redis://127.0.0.1:6379/0", "team"),
        RedisFlagDefinitionCache(redis.Redis(), "team"),
        SqliteFlagDefinitionCache(path, "team"),
    ]
    for cache in caches:
        assert cache.status().role is Role.NEW
        cache.shutdown()
    assert not path.exists()
    assert threading.active_count() == threads


@pytest.mark.parametrize("decode_responses", [False, True])
def test_a_client_handed_in_is_neither_used_nor_closed(
    redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch, *, decode_responses: bool
) -> None:
    """Its address is taken, whatever it makes of replies; its connections stay its own and open."""
    client = redis_server.client(decode_responses=decode_responses)
    client.ping()
    touched: list[str] = []
    for name in ("get_connection", "disconnect", "reset", "release", "close"):
        if hasattr(client.connection_pool, name):
            monkeypatch.setattr(client.connection_pool, name, lambda *_a, _name=name, **_k: touched.append(_name))
    for name in ("execute_command", "close"):
        monkeypatch.setattr(client, name, lambda *_a, _name=name, **_k: touched.append(_name))
    writer, reader = RedisFlagDefinitionCache(client, namespace), RedisFlagDefinitionCache(client, namespace)
    assert writer.should_fetch_flag_definitions() is True
    writer.on_flag_definitions_received(DATA)
    assert reader.should_fetch_flag_definitions() is False
    assert reader.get_flag_definitions() == DATA
    for cache in (writer, reader):
        cache.shutdown()
    assert touched == []
    monkeypatch.undo()
    assert client.ping() is True


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_repr_and_status_tell_what_is_so(redis_server: RedisServer, namespace: str) -> None:
    """Role, version, age, store and namespace: before the first question, as a leader, as a follower."""
    leader, follower = (RedisFlagDefinitionCache(redis_server.url, namespace) for _ in range(2))
    shown = f"<RedisFlagDefinitionCache namespace={namespace!r} store={leader.status().store!r} role=new"
    assert repr(leader) == f"{shown} version='none' age=none>"
    leader.should_fetch_flag_definitions()
    leader.on_flag_definitions_received(DATA)
    follower.should_fetch_flag_definitions()
    status = leader.status()
    assert repr(leader).startswith(shown.replace("new", "leader") + f" version={status.version[:12]!r} age=")
    assert (status.role, follower.status().role) == (Role.LEADER, Role.FOLLOWER)
    assert follower.status().version == status.version
    assert status.namespace == namespace
    assert status.writer.startswith("posthog-python/")
    assert status.age is not None
    assert 0 <= status.age < 10
    assert status.pid == os.getpid()
    assert status.store_answers
    leader.shutdown()
    follower.shutdown()


@pytest.mark.parametrize("right", [True, False], ids=["accepted", "refused"])
@pytest.mark.parametrize("how", ["url", "client"])
def test_no_password_is_ever_shown(
    make_redis: MakeRedis, namespace: str, caplog: pytest.LogCaptureFixture, how: str, *, right: bool
) -> None:
    """Neither in repr and status nor in any log line, also when the server refuses it."""
    password = "s3cret-pass"
    server = make_redis(tcp=True, args=("--requirepass", password if right else "another"))
    url = server.tcp_url.replace("//", f"//:{password}@")
    client = redis.Redis.from_url(url)
    caplog.set_level(logging.DEBUG)
    cache = RedisFlagDefinitionCache(client if how == "client" else url, namespace)
    cache.should_fetch_flag_definitions()
    cache.on_flag_definitions_received(DATA)
    assert cache.status().store_answers is right
    assert f"127.0.0.1:{server.port}" in cache.status().store
    shown = [repr(cache), str(cache), json.dumps(cache.status().as_dict()), repr(cache.status()), caplog.text]
    cache.shutdown()
    client.close()
    assert password not in "".join([*shown, caplog.text])
    assert len(caplog.records) > 0


@pytest.mark.parametrize(
    "url", ["redis://u:s3cret@h:99999/0", "redis://:s3cret@h/team", "rediss://:s3cret@h/0?ssl_cert_reqs=perhaps", "://s3cret@h"]
)
def test_no_password_is_shown_by_an_error(url: str) -> None:
    """Also where the URL cannot be right."""
    with pytest.raises(ConfigurationError) as caught:
        from_url(url, "team").should_fetch_flag_definitions()
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in str(error)
        error = None if error.__suppress_context__ and error.__cause__ is None else error.__cause__ or error.__context__


# --- one process ------------------------------------------------------------------------------------------------------


def test_eight_cold_threads_cost_one_request(redis_server: RedisServer, namespace: str) -> None:
    """Evaluations that find a client without flags load them together, and PostHog sees one request."""
    with PostHogStandIn(delay=0.2) as standin:
        client = Posthog(
            "phc_test",
            secret_key="phs_test",
            host=standin.url,
            poll_interval=3600,
            sync_mode=True,
            flag_definition_cache_provider=RedisFlagDefinitionCache(redis_server.url, namespace),
        )
        start = threading.Barrier(8)

        def evaluate(_number: int) -> object:
            start.wait(10)
            return client.evaluate_flags("user", only_evaluate_locally=True).get_flag("flag-0")

        with ThreadPoolExecutor(8) as pool:
            values = list(pool.map(evaluate, range(8)))
        client.shutdown()
        assert values == [True] * 8
        assert standin.requests == 1


def test_a_process_that_ends_hands_the_lease_over(redis_server: RedisServer, namespace: str) -> None:
    """Without a call of `shutdown`, at the interpreter's exit."""
    told = python(
        "import flagcache\n"
        f"cache = flagcache.from_url({redis_server.url!r}, {namespace!r})\n"
        "assert cache.should_fetch_flag_definitions()\n"
        "cache.on_flag_definitions_received({'flags': [], 'group_type_mapping': {}, 'cohorts': {}})\n"
        "print(cache.status().role.value)\n"
    )
    assert told == "leader\n"
    successor = RedisFlagDefinitionCache(redis_server.url, namespace)
    assert successor.should_fetch_flag_definitions() is False
    assert successor.status().role is Role.LEADER
    successor.shutdown()


def test_caches_of_one_process_share_its_memory(namespace: str) -> None:
    """By their namespace, as all clients of the process."""
    writer, reader, stranger = (
        MemoryFlagDefinitionCache(name) for name in (namespace, namespace, f"{namespace}-2")
    )
    assert writer.should_fetch_flag_definitions() is True
    writer.on_flag_definitions_received(DATA)
    assert reader.should_fetch_flag_definitions() is False
    assert reader.get_flag_definitions() == DATA
    assert stranger.should_fetch_flag_definitions() is True
