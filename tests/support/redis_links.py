# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""Helpers of the tests of `RedisLink`: scripts, links that are closed in the end, and a second view of the server."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from typing import TypeAlias, cast

import redis

from flagcache.errors import StoreError
from flagcache.stores.redis.address import RedisTarget
from flagcache.stores.redis.connection import RedisLink, Script
from tests.support.servers import RedisServer

ECHO = Script.of("return {KEYS[1], ARGV[1], 7}")
WRITE = Script.of("return redis.call('SET', KEYS[1], ARGV[1])")
READ = Script.of("return redis.call('GET', KEYS[1])")
FAIL = Script.of("return redis.error_reply('ERR no such flag')")

SECRET = "s3cr:et/word"
ESCAPED = "s3cr%3Aet%2Fword"

Source: TypeAlias = "redis.Redis | redis.RedisCluster | RedisTarget | str"


def make_client(**options: object) -> redis.Redis:
    """A client as a user makes it; `options` as `redis.Redis` takes them. A machine may know no name `localhost`."""
    where = {"host": "127.0.0.1"} if "port" in options else {}
    return cast("Callable[..., redis.Redis]", redis.Redis)(**where | options)


@contextmanager
def link_to(source: Source, *, timeout: float = 2.0, max_connections: int = 4) -> Generator[RedisLink]:
    """A link that is closed in the end."""
    with closing(RedisLink(source, timeout=timeout, max_connections=max_connections)) as link:
        yield link


def writes(link: RedisLink, key: str) -> bool:
    """Whether the link can write now."""
    try:
        return link.run(WRITE, [key], ["written"]) == b"OK"
    except StoreError:
        return False


def execute(server: RedisServer, *command: str | bytes | int, password: str | None = None) -> object:
    """Send one command to one server, without redirection."""
    with closing(make_client(unix_socket_path=str(server.socket_path), password=password)) as client:
        return cast("object", client.execute_command(*command))


def clients_seen_by(admin: redis.Redis) -> list[dict[str, str]]:
    """Return the connections to a server, except the one that asks."""
    own = str(admin.client_id())
    clients: list[dict[str, str]] = admin.client_list()
    return [each for each in clients if each["id"] != own]


def calls_since(admin: redis.Redis) -> dict[str, int]:
    """How often a server ran each command since the last look."""
    stats = cast("dict[str, dict[str, int]]", admin.info("commandstats"))
    admin.config_resetstat()
    calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    return {name: number for name, number in calls.items() if name not in {"info", "config|resetstat", "config"}}
