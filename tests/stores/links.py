"""What the tests of `RedisLink` share: a few scripts, links that are closed in the end, and a look at who is connected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import cast

import redis

from flagcache.stores._redis_link import RedisLink, Script

ECHO = Script.of("return {KEYS[1], ARGV[1], 7}")
WRITE = Script.of("return redis.call('SET', KEYS[1], ARGV[1])")
READ = Script.of("return redis.call('GET', KEYS[1])")
ENDED = Script.of("return redis.error_reply('ERR no such flag')")
SECRET = "s3cr:et/word"
ESCAPED = "s3cr%3Aet%2Fword"


@contextmanager
def link_to(
    source: redis.Redis | redis.RedisCluster | str, *, timeout: float = 2.0, max_connections: int = 4
) -> Iterator[RedisLink]:
    """A link that is closed in the end."""
    with closing(RedisLink(source, timeout=timeout, max_connections=max_connections)) as link:
        yield link


def clients_seen_by(admin: redis.Redis) -> list[dict[str, str]]:
    """Who is connected to a server, but for the one who asks."""
    own = str(admin.client_id())
    return [each for each in cast("list[dict[str, str]]", admin.client_list()) if each["id"] != own]
