# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""The failures of a Redis: each begins on demand, and most can end."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import redis
from redis.crc import key_slot

from flagcache.stores.redis.store import keys_of
from tests.support.failing_proxy import Behaviour, Proxy
from tests.support.servers import MakeRedis, RedisServer, free_port, until

__all__ = ["TROUBLES", "FailingServer", "MakeFailingServer"]


@dataclass(frozen=True, slots=True)
class FailingServer:
    """A server that works until `begin` is called."""

    url: str
    begin: Callable[[], None]
    end: Callable[[], None] | None


MakeFailingServer: TypeAlias = Callable[[MakeRedis, ExitStack, str], FailingServer]
"""Given servers, the things to close, and the namespace."""


def _admin(server: RedisServer, *command: str | int) -> object:
    with closing(redis.Redis(unix_socket_path=str(server.socket_path))) as client:
        return cast("object", client.execute_command(*command))


def _refused(make_redis: MakeRedis, _stack: ExitStack, _namespace: str) -> FailingServer:
    server = make_redis(tcp=True)
    return FailingServer(server.tcp_url, server.kill, server.start)


def _frozen(make_redis: MakeRedis, _stack: ExitStack, _namespace: str) -> FailingServer:
    server = make_redis(tcp=True)
    return FailingServer(server.tcp_url, server.freeze, server.thaw)


def _frozen_socket(make_redis: MakeRedis, _stack: ExitStack, _namespace: str) -> FailingServer:
    server = make_redis()
    return FailingServer(server.url, server.freeze, server.thaw)


def _proxied(behaviour: Behaviour) -> MakeFailingServer:
    def make(make_redis: MakeRedis, stack: ExitStack, _namespace: str) -> FailingServer:
        proxy = stack.enter_context(Proxy(make_redis(tcp=True).port))
        return FailingServer(proxy.url, lambda: proxy.behave(behaviour), lambda: proxy.behave(Behaviour.FAITHFUL))

    return make


def _loading(make_redis: MakeRedis, _stack: ExitStack, _namespace: str) -> FailingServer:
    args = ("--key-load-delay", "3000", "--loading-process-events-interval-bytes", "1024")
    server = make_redis(tcp=True, args=args)

    def begin() -> None:
        with closing(redis.Redis(port=server.port, host="127.0.0.1")) as client:
            client.mset({f"ballast {number}": os.urandom(500) for number in range(1000)})
            client.save()
        server.kill()
        server.start()

    return FailingServer(server.tcp_url, begin, lambda: None)


def _read_only(make_redis: MakeRedis, _stack: ExitStack, _namespace: str) -> FailingServer:
    server = make_redis(tcp=True)
    return FailingServer(
        server.tcp_url,
        lambda: cast("None", _admin(server, "REPLICAOF", "127.0.0.1", 1)),
        lambda: cast("None", _admin(server, "REPLICAOF", "NO", "ONE")),
    )


def _out_of_memory(make_redis: MakeRedis, _stack: ExitStack, _namespace: str) -> FailingServer:
    server = make_redis(tcp=True)
    return FailingServer(
        server.tcp_url,
        lambda: cast("None", _admin(server, "CONFIG", "SET", "maxmemory", 1)),
        lambda: cast("None", _admin(server, "CONFIG", "SET", "maxmemory", 0)),
    )


def _moved(make_redis: MakeRedis, _stack: ExitStack, namespace: str) -> FailingServer:
    def node() -> RedisServer:
        settings = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
        return make_redis(tcp=True, args=settings)

    server, other = node(), node()
    _admin(server, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    bus = cast("bytes", _admin(other, "CLUSTER", "NODES")).split(b"@")[1].split()[0].split(b",")[0]
    _admin(server, "CLUSTER", "MEET", "127.0.0.1", other.port, int(bus))
    until(lambda: b"cluster_known_nodes:2" in cast("bytes", _admin(other, "CLUSTER", "INFO")))
    until(lambda: b"cluster_state:ok" in cast("bytes", _admin(server, "CLUSTER", "INFO")))
    keys = keys_of(namespace, 0)

    def begin() -> None:
        stranger = cast("bytes", _admin(other, "CLUSTER", "MYID")).decode()
        _admin(server, "DEL", keys.hash, keys.lease)
        _admin(server, "CLUSTER", "SETSLOT", key_slot(keys.hash.encode()), "NODE", stranger)

    return FailingServer(server.tcp_url, begin, None)


def _busy(make_redis: MakeRedis, stack: ExitStack, _namespace: str) -> FailingServer:
    server = make_redis(tcp=True, args=("--lua-time-limit", "100"))

    def run() -> None:
        with contextlib.suppress(redis.RedisError):  # it was ended
            _admin(server, "EVAL", "while true do end", 0)

    def end() -> None:
        with contextlib.suppress(redis.RedisError):  # it ended before
            _admin(server, "SCRIPT", "KILL")

    def answers_busy() -> bool:
        try:
            _admin(server, "PING")
        except redis.ResponseError as exc:
            return "BUSY" in str(exc)
        return False

    def begin() -> None:
        thread = threading.Thread(target=run)
        thread.start()
        stack.callback(thread.join, 10)
        stack.callback(end)
        until(answers_busy)

    return FailingServer(server.tcp_url, begin, end)


def _wrong_password(make_redis: MakeRedis, _stack: ExitStack, _namespace: str) -> FailingServer:
    server = make_redis(tcp=True)

    def change(password: str, current: str | None) -> None:
        with closing(redis.Redis(unix_socket_path=str(server.socket_path), password=current)) as client:
            client.execute_command("CONFIG", "SET", "requirepass", password)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    return FailingServer(server.tcp_url, lambda: change("another", None), lambda: change("", "another"))


TROUBLES: Final[dict[str, MakeFailingServer]] = {
    "refused": _refused,
    "frozen": _frozen,
    "frozen behind a unix socket": _frozen_socket,
    "half-open": _proxied(Behaviour.SILENT),
    "vanished": _proxied(Behaviour.FULL),
    "slow drip": _proxied(Behaviour.DRIPPING),
    "LOADING": _loading,
    "READONLY": _read_only,
    "OOM": _out_of_memory,
    "MOVED": _moved,
    "BUSY": _busy,
    "wrong password": _wrong_password,
}
"""Everything that lasts."""
