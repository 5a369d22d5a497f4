"""Systems that lack parts of Unix, such as Windows. The tests remove these parts for our code only.

The libraries are imported before, because on such a system they work without these modules, as asyncio does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from flagcache_posthog.testing import PostHogStandIn, make_definitions
from tests.support.servers import RedisServer

ROOT = Path(__file__).parents[2]

WITHOUT = """
import json, logging, os, select, signal, socket, sys, time
import asyncio, multiprocessing, subprocess, tenacity
import posthog, redis, redis.asyncio, requests

for name in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None  # an import of it raises ModuleNotFoundError

def take_away(module, *names):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)

take_away(os, "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "WNOHANG", "chown", "fchmod", "fchown", "fork")
take_away(os, "forkpty", "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp", "getuid", "killpg")
take_away(os, "lchown", "mkfifo", "register_at_fork", "setsid", "statvfs", "sysconf", "uname", "wait", "WIFEXITED")
take_away(os, "ST_RDONLY", "fstatvfs", "fchdir", "setuid", "setgid", "posix_spawn", "sched_getaffinity")
take_away(signal, "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2")
take_away(signal, "pthread_sigmask", "setitimer", "sigwait", "pthread_kill")
take_away(select, "epoll", "poll")
pair, unix = socket.socketpair, socket.AF_UNIX
socket.socketpair = lambda *_ignored: pair(unix)  # Windows has one, which asyncio needs
take_away(socket, "AF_UNIX")
take_away(time, "CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "CLOCK_REALTIME", "clock_gettime", "clock_gettime_ns")

logging.basicConfig(stream=sys.stderr, format="%(name)s %(levelname)s %(message)s")
"""

RUNS = """
from posthog import Posthog
import flagcache

url, redis_url, namespace, kind = sys.argv[1:]

def cache():
    if kind == "memory":
        return flagcache.MemoryFlagDefinitionCache(namespace)
    if kind == "url":
        return flagcache.from_url(redis_url, namespace)
    if kind == "asyncio":
        return flagcache.AsyncRedisFlagDefinitionCache(redis_url, namespace)
    return flagcache.RedisFlagDefinitionCache(redis_url, namespace)

def answer():
    mine = cache()
    client = Posthog(
        "phc_test", secret_key="phs_test", host=url, poll_interval=3600, flag_definition_cache_provider=mine
    )
    flags = client.evaluate_flags("user", flag_keys=["flag-0"], only_evaluate_locally=True)
    found = {"flag": flags.is_enabled("flag-0"), "serving": mine.status().serving.value, "ready": mine.ready()}
    client.shutdown()
    return found

print(json.dumps({"first": answer(), "second": answer()}))
"""

REFUSED = """
import flagcache

def refusal(make):
    try:
        make()
    except flagcache.ConfigurationError as exc:
        return str(exc)

url = "redis://127.0.0.1:1/0"
print(json.dumps({
    "cache": refusal(lambda: flagcache.SqliteFlagDefinitionCache("flags.db", "team")),
    "url": refusal(lambda: flagcache.from_url("sqlite:///flags.db", "team")),
    "fallback": refusal(lambda: flagcache.RedisFlagDefinitionCache(url, "team", fallback="here")),
    "socket": refusal(lambda: flagcache.from_url("unix:///run/redis.sock", "team", fallback=None)),
    "reader": refusal(lambda: flagcache.RedisFlagDefinitionCache(url, "team", role="reader")),
    "none": refusal(lambda: flagcache.RedisFlagDefinitionCache(url, "team", fallback=None)),
}))
"""

IMPORTS = """
import importlib, pkgutil
import flagcache, flagcache_posthog

failed = {}
for package in (flagcache, flagcache_posthog):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if found.name.endswith(".__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except Exception as exc:
            failed[found.name] = repr(exc)
print(json.dumps(failed))
"""

COMMAND = """
from flagcache.cli import main
sys.exit(main(sys.argv[1:]))
"""


def _run(script: str, *arguments: str, status: int = 0) -> tuple[str, str]:
    """What a fresh interpreter without the parts of Unix prints, and its log."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + script, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def _values(text: str) -> Mapping[str, object]:
    return cast("Mapping[str, object]", json.loads(text))


@pytest.mark.parametrize("kind", ["redis", "url", "asyncio", "memory"])
def test_caches_run(kind: str, redis_server: RedisServer, namespace: str) -> None:
    """The caches on Redis and in memory fetch, share and evaluate as ever; one line says that there is no fallback."""
    with PostHogStandIn(make_definitions(5)) as standin:
        out, log = _run(RUNS, standin.url, redis_server.tcp_url, namespace, kind)
        requests = standin.requests
    expected = {"flag": True, "serving": "all", "ready": True}
    assert _values(out) == {"first": expected, "second": expected}
    assert requests == 1
    lines = [line for line in log.splitlines() if line.startswith("flagcache")]
    assert len(lines) == (0 if kind == "memory" else 1), log
    assert all("no fallback store on this system" in line and "fallback=None" in line for line in lines)
    assert "Traceback" not in log


def test_what_cannot_work_is_refused() -> None:
    """SQLite's cache, and a fallback that was asked for by name: with what is missing and what to do instead."""
    out, log = _run(REFUSED)
    values = _values(out)
    assert (values["reader"], values["none"]) == (None, None)
    for name in ("cache", "url", "fallback"):
        assert "no module fcntl" in str(values[name])
    assert "MemoryFlagDefinitionCache" in str(values["cache"])
    assert "fallback=None" in str(values["fallback"])
    assert "redis://" in str(values["socket"])
    assert not log


def test_every_module_that_is_not_sqlites_can_be_imported() -> None:
    """Every module except SQLite's can be imported, because tools that walk a package import all of it."""
    out, _log = _run(IMPORTS)
    failed = {name for name in _values(out) if not name.startswith("flagcache.stores.sqlite")}
    assert failed <= {"flagcache.cli.demo.app"}, out  # an application, which only the demo's server can load


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "sqlite:///flags.db", "team"], "no module fcntl"),
        (["clear", "sqlite:///flags.db", "team", "--yes"], "no module fcntl"),
        (["demo"], "the demo runs gunicorn, which needs Linux, macOS or another Unix"),
    ],
    ids=["inspect", "clear", "demo"],
)
def test_a_command_that_cannot_work_says_why(arguments: list[str], message: str) -> None:
    """The command prints one line, as for invalid arguments."""
    out, log = _run(COMMAND, *arguments, status=2)
    assert not out
    assert log.startswith("flagcache: ")
    assert message in log
    assert len(log.splitlines()) == 1


def test_commands_reach_redis(redis_server: RedisServer, namespace: str) -> None:
    """`inspect` needs nothing of Unix."""
    out, _log = _run(COMMAND, "inspect", redis_server.tcp_url, namespace, "--json")
    assert _values(out)["meta"] is None
