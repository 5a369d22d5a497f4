"""The servers that the other tests use."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.support.servers import MakeRedis, RedisServer, until


def test_each_server_is_the_version_it_is_called(redis_server_any: RedisServer) -> None:
    """A server's name has its family and version; Debian's own Redis is 7.0 in Debian 12, and newer after that."""
    info = redis_server_any.client(decode_responses=True).info("server")
    family, version = redis_server_any.name.split("-")
    if redis_server_any.name == "redis-7.0" and not Path("/etc/debian_version").read_text().startswith("12."):
        assert tuple(map(int, info["redis_version"].split("."))) >= (7, 0)
        return
    if family == "valkey":
        assert info["valkey_version"].startswith(f"{version}.")
    else:
        assert info["redis_version"].startswith(f"{version}.")


def test_a_server_comes_back_at_its_address(make_redis: MakeRedis) -> None:
    """A killed server refuses; started again it answers at the same URL, empty."""
    server = make_redis(tcp=True)
    client = redis.Redis.from_url(server.tcp_url, socket_timeout=1, retry=None)
    with client:
        client.set("k", "v")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        assert client.get("k") is None


def test_a_frozen_server_hangs_and_goes_on(make_redis: MakeRedis) -> None:
    """A frozen server answers nothing until it is thawed."""
    server = make_redis()
    client = server.client(socket_timeout=0.1, retry=None)
    assert client.ping()
    server.freeze()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    server.thaw()
    assert server.client().ping()


def test_servers_end_with_the_tests_that_started_them() -> None:
    """A test run that is ended by kill -9 leaves no server behind."""
    script = """if True:
        from tests.support.servers import RedisServer, newest_binary
        print(RedisServer(newest_binary()).pid, flush=True)
        input()
    """
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    until(lambda: not _runs(pid), what=f"server {pid} to end")


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
