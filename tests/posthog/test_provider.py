"""The caches as users see them: created, shown, and used by one process."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from posthog import Posthog
from posthog.flag_definition_cache import FlagDefinitionCacheData

import flagcache
from flagcache import (
    ConfigurationError,
    MemoryFlagDefinitionCache,
    RedisFlagDefinitionCache,
    SqliteFlagDefinitionCache,
    from_url,
)
from flagcache.status import Role
from flagcache_posthog.testing import PostHogStandIn
from tests.support.servers import MakeRedis, RedisServer

DATA = FlagDefinitionCacheData(flags=[{"key": "one"}], group_type_mapping={}, cohorts={})


def python(script: str) -> str:
    """Return what a script prints in a separate process that exits normally."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the front door ---------------------------------------------------------------------------------------------------


def test_the_front_door_has_every_public_name() -> None:
    """Each public name can be imported and is listed; for another one Python's usual error is raised."""
    for name in flagcache.__all__:
        assert getattr(flagcache, name) is not None
        assert name in dir(flagcache)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        getattr(flagcache, "Nothing")  # noqa: B009 - which checkers need not see


def test_the_front_door_is_light() -> None:
    """Importing the package loads neither an SDK nor a client library; the first use of a name does."""
    heavy = "[m for m in ('posthog', 'redis', 'sqlite3', 'tenacity') if m in sys.modules]"
    assert python(f"import sys, flagcache; print({heavy})") == "[]\n"
    assert "'posthog'" in python(f"import sys, flagcache; flagcache.from_url; print({heavy})")


def test_a_cache_without_redis_does_not_load_its_client() -> None:
    """Only who uses Redis pays for it."""
    script = "import sys, flagcache; flagcache.MemoryFlagDefinitionCache('a'); print('redis' in sys.modules)"
    assert python(script) == "False\n"


def test_the_stand_in_does_not_load_pytest() -> None:
    """The stand-in serves the demo too; the contract beside it is loaded at its first use."""
    script = "import sys, flagcache_posthog.testing as t; print('pytest' in sys.modules, t.ProviderContract.__name__)"
    assert python(script) == "False ProviderContract\n"


# --- what a constructor does not do -----------------------------------------------------------------------------------


def test_making_a_cache_connects_to_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache can be made before a fork: it opens no connection and no file, and starts no thread."""

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


def test_whatever_a_worker_needs_is_loaded_by_the_constructor(
    redis_server: RedisServer, namespace: str, tmp_path: Path
) -> None:
    """Nothing is imported later on our threads: a child that is forked meanwhile would hang at that import."""
    with PostHogStandIn() as standin:
        output = python(
            "import sys, flagcache, posthog\n"
            f"where = {redis_server.url!r}, {namespace!r}\n"
            f"cache = flagcache.RedisFlagDefinitionCache(*where, fallback={str(tmp_path)!r})\n"
            f"client = posthog.Posthog('phc', secret_key='phs', host={standin.url!r}, sync_mode=True,\n"
            "    flag_definition_cache_provider=cache)\n"
            "before = set(sys.modules)\n"
            "cache.attach(client).load_feature_flags()\n"
            "client.shutdown()\n"
            "print(len(client.feature_flags), sorted(set(sys.modules) - before))\n"
        )
        assert standin.requests == 1
    assert output.endswith(" []\n")
    assert len(list(tmp_path.iterdir())) >= 1  # the last known good ones were kept there


@pytest.mark.parametrize("decode_responses", [False, True])
def test_a_client_handed_in_is_neither_used_nor_closed(
    redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch, *, decode_responses: bool
) -> None:
    """Its address is taken, whatever it makes of replies; its connections stay its own and open."""
    client = redis_server.client(decode_responses=decode_responses)
    client.ping()
    touched: list[str] = []

    def watch(of: object, name: str) -> None:
        monkeypatch.setattr(of, name, lambda *_args, **_options: touched.append(name))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]

    for name in ("get_connection", "disconnect", "reset", "release"):
        watch(client.connection_pool, name)
    for name in ("execute_command", "close"):
        watch(client, name)
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
    """Repr and status show role, version, age, store and namespace, before the first poll, as leader and follower."""
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


def test_a_process_is_ready_when_it_holds_definitions(redis_server: RedisServer, namespace: str) -> None:
    """It becomes ready with its first definitions, and a forked child is what its parent was, without a request."""
    leader, follower = (RedisFlagDefinitionCache(redis_server.url, namespace) for _ in range(2))
    leader.should_fetch_flag_definitions()
    assert not leader.ready()
    leader.on_flag_definitions_received(DATA)
    assert leader.ready()
    assert not follower.ready()
    follower.should_fetch_flag_definitions()
    assert follower.ready()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if leader.ready() and leader.status().role is Role.NEW else 1)
    assert os.waitpid(pid, 0)[1] == 0
    leader.shutdown()
    follower.shutdown()


@pytest.mark.parametrize("right", [True, False], ids=["accepted", "refused"])
@pytest.mark.parametrize("how", ["url", "client"])
def test_no_password_is_ever_shown(
    make_redis: MakeRedis, namespace: str, caplog: pytest.LogCaptureFixture, how: str, *, right: bool
) -> None:
    """Neither repr, nor status, nor any log line shows the password, also if the server refuses it."""
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
    "url",
    [
        "redis://u:s3cret@h:99999/0",
        "redis://:s3cret@h/team",
        "rediss://:s3cret@h/0?ssl_cert_reqs=perhaps",
        "://s3cret@h",
    ],
)
def test_no_password_is_shown_by_an_error(url: str) -> None:
    """The refusal of an invalid URL shows no password either."""
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
    """A process hands over the lease at the interpreter's exit, without a call of `shutdown`."""
    output = python(
        "import flagcache\n"
        f"cache = flagcache.from_url({redis_server.url!r}, {namespace!r})\n"
        "assert cache.should_fetch_flag_definitions()\n"
        "cache.on_flag_definitions_received({'flags': [], 'group_type_mapping': {}, 'cohorts': {}})\n"
        "print(cache.status().role.value)\n"
    )
    assert output == "leader\n"
    successor = RedisFlagDefinitionCache(redis_server.url, namespace)
    assert successor.should_fetch_flag_definitions() is False
    assert successor.status().role is Role.LEADER
    successor.shutdown()


def test_caches_of_one_process_share_its_memory(namespace: str) -> None:
    """Caches with one namespace share the process's memory, as all its clients do."""
    writer, reader, stranger = (MemoryFlagDefinitionCache(name) for name in (namespace, namespace, f"{namespace}-2"))
    assert writer.should_fetch_flag_definitions() is True
    writer.on_flag_definitions_received(DATA)
    assert reader.should_fetch_flag_definitions() is False
    assert reader.get_flag_definitions() == DATA
    assert stranger.should_fetch_flag_definitions() is True
