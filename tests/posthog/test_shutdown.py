"""The shutdown of a client, in every way, and what is left of it: nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from posthog import Posthog

from flagcache.status import Role
from flagcache_posthog import FlagDefinitionCache, from_url
from flagcache_posthog.testing import REVISION_FLAG, RemoteStandIn, make_definitions
from tests.support.attached_clients import holder
from tests.support.own_threads import threads_of
from tests.support.real_fleet import RecordingPosthog
from tests.support.servers import MakeRedis, RedisServer, until
from tests.support.user_programs import Program, posthog_environment

EVERY = 0.5
LONG = 60.0

either = pytest.mark.parametrize("attached", [True, False], ids=["attached", "unattached"])


def made(cache: FlagDefinitionCache, posthog: RemoteStandIn, *, attached: bool, send: bool = True) -> Posthog:
    """A client of this cache; if it sends no events, the SDK's only connection is the one for its fetches."""
    client = RecordingPosthog(
        "phc_test",
        secret_key="phs_test",
        host=posthog.url,
        poll_interval=EVERY,
        flag_definition_cache_provider=cache,
        send=send,
    )
    return cache.attach(client) if attached else client


def revision(client: Posthog) -> object:
    """Return the revision that a user's code sees; this loads a client without flags."""
    return client.evaluate_flags("user", only_evaluate_locally=True).get_flag(REVISION_FLAG)


def open_files() -> Counter[str]:
    """How many sockets, pipes and files of each kind this process has open."""
    entries = list(Path("/proc/self/fd").iterdir())
    return Counter(str(entry.readlink()).split(":")[0] for entry in entries if entry.is_symlink())


# --- called in every way ---------------------------------------------------------------------------------------------


@either
def test_twice_from_two_threads_at_once_and_once_more(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, attached: bool
) -> None:
    """Each call returns, the lease is handed over, and no thread is left."""
    cache = from_url(redis_server.url, namespace, refresh_interval=EVERY, lease=LONG, auto_attach=attached)
    client = made(cache, posthog, attached=attached)
    assert revision(client) == "r1"
    assert holder(redis_server.client(), namespace) == os.getpid()
    start = threading.Barrier(2)

    def end() -> None:
        start.wait()
        client.shutdown()

    threads = [threading.Thread(target=end, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert not any(thread.is_alive() for thread in threads)
    client.shutdown()
    assert threads_of() == []
    assert holder(redis_server.client(), namespace) == 0


@either
def test_calls_after_it(posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, attached: bool) -> None:
    """After its shutdown a client evaluates with what it has, without a request; a new one on its cache starts."""
    cache = from_url(redis_server.url, namespace, refresh_interval=EVERY, lease=LONG, auto_attach=attached)
    first = made(cache, posthog, attached=attached)
    assert revision(first) == "r1"
    first.shutdown()
    asked = posthog.requests
    posthog.serve(make_definitions(5, revision=2))
    assert revision(first) == "r1"
    assert cache.status().role is not Role.LEADER
    assert "role=" in repr(cache)
    cache.shutdown()
    assert posthog.requests == asked
    second = made(cache, posthog, attached=attached)
    until(lambda: revision(second) == "r2", 10.0, what="the change to reach the new client")
    assert cache.status().role is Role.LEADER
    assert revision(first) == "r1"
    second.shutdown()
    assert threads_of() == []
    assert holder(redis_server.client(), namespace) == 0


APP = """
import atexit, os, signal, sys, time
from posthog import Posthog

how = sys.argv[1]
if how == "before":  # registered before ours, and therefore called after it
    atexit.register(lambda: client.shutdown())
from flagcache import RedisFlagDefinitionCache

cache = RedisFlagDefinitionCache(
    os.environ["REDIS_URL"],
    os.environ["NAMESPACE"],
    refresh_interval=0.5,
    lease=60,
    auto_attach=bool(os.environ["ATTACHED"]),
)
client = Posthog(
    "phc_test",
    secret_key="phs_test",
    host=os.environ["POSTHOG_HOST"],
    # Here the main thread polls. Were it interrupted with the SDK's lock in hand while the poller waits for that, the
    # SDK's shutdown would wait for the poller without end, with any provider or none.
    poll_interval=60,
    flag_definition_cache_provider=cache,
)
if os.environ["ATTACHED"]:
    cache.attach(client)
if how == "after":
    atexit.register(client.shutdown)

def end(*_):
    client.shutdown()
    print("handled", flush=True)
    sys.exit(3)

def obey(lost):
    # Python drops the exception of a handler that runs inside a finalizer, as redis-py's parser has one.
    if lost.exc_type is SystemExit:
        os._exit(lost.exc_value.code)

sys.unraisablehook = obey
signal.signal(signal.SIGTERM, end)
client.load_feature_flags()
print("loaded", flush=True)
if how == "polling":
    while True:
        client.poller.execute(*client.poller.args)
elif how == "in shutdown":
    client.flush()
    while True:
        client.shutdown()
"""


def program(tmp_path: Path, posthog: RemoteStandIn, url: str, namespace: str, how: str, *, attached: bool) -> Program:
    """A process whose end is looked at."""
    (tmp_path / "app.py").write_text(APP)
    environ = posthog_environment(posthog.url, REDIS_URL=url, NAMESPACE=namespace, ATTACHED="1" if attached else "")
    return Program(tmp_path, [sys.executable, "app.py", how], environ)


@pytest.mark.parametrize(("how", "attached"), [("before", True), ("after", False), ("not at all", True)])
def test_at_exit(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, tmp_path: Path, how: str, attached: bool
) -> None:
    """Called before our own exit hook, after it, or not at all: the lease is free at once, without a log line."""
    with program(tmp_path, posthog, redis_server.url, namespace, how, attached=attached) as running:
        assert running.wait() == 0
        assert running.log == "loaded\n"
    assert holder(redis_server.client(), namespace) == 0


@pytest.mark.parametrize(("how", "attached"), [("polling", True), ("polling", False), ("in shutdown", True)])
def test_from_a_signal_handler(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, tmp_path: Path, how: str, attached: bool
) -> None:
    """Whatever the main thread is doing, the handler ends, and the lease is given up."""
    with program(tmp_path, posthog, redis_server.url, namespace, how, attached=attached) as running:
        running.prints("loaded")
        running.send(signal.SIGTERM)
        assert running.wait() == 3
        assert running.log.splitlines()[-1] == "handled"
        assert "Traceback" not in running.log
    assert holder(redis_server.client(), namespace) == 0


def test_from_a_signal_handler_while_redis_hangs(
    posthog: RemoteStandIn, make_redis: MakeRedis, namespace: str, tmp_path: Path
) -> None:
    """The handler waits for the poll that it interrupted no longer than two store timeouts, and continues."""
    redis = make_redis()
    with program(tmp_path, posthog, redis.url, namespace, "polling", attached=True) as running:
        running.prints("loaded")
        redis.freeze()
        began = time.monotonic()
        running.send(signal.SIGTERM)
        assert running.wait() == 3
        assert time.monotonic() - began < 10.0
        assert "Traceback" not in running.log


# --- what is left ----------------------------------------------------------------------------------------------------


@either
@pytest.mark.parametrize("store", ["redis", "sqlite", "redis, after an outage"])
def test_nothing_is_left(
    posthog: RemoteStandIn, make_redis: MakeRedis, namespace: str, tmp_path: Path, store: str, attached: bool
) -> None:
    """All threads, sockets and files that came with a client are gone, those of the fallback store too."""
    warm = made(from_url("memory://", f"{namespace}-first"), posthog, attached=False, send=False)
    assert revision(warm) == "r1"  # now the SDK has the one that it keeps for the life of the process
    warm.shutdown()
    redis = make_redis()
    admin = redis.client()
    admin.ping()
    running, files = set(threading.enumerate()), open_files()
    url = f"sqlite:///{tmp_path / 'flags.db'}" if store == "sqlite" else redis.url
    cache = from_url(url, namespace, refresh_interval=EVERY, auto_attach=attached)
    client = made(cache, posthog, attached=attached, send=False)
    assert revision(client) == "r1"
    if "outage" in store:
        redis.freeze()
        until(
            lambda: cache.status().store_in_charge.startswith("sqlite://"), 10.0, what="the fallback store to be used"
        )
        redis.thaw()
        until(lambda: cache.status().store_in_charge == cache.status().store, 10.0, what="Redis to be used again")
    client.shutdown()
    until(lambda: set(threading.enumerate()) <= running, 5.0, what="all threads to end")
    until(lambda: open_files() <= files, 5.0, what="everything to be closed")
    until(lambda: len(admin.client_list()) == 1, 5.0, what="all connections but this one to be closed")
