from __future__ import annotations

import traceback
from contextlib import closing
from typing import cast

import pytest
import redis
import redis.asyncio

from flagcache.errors import ConfigurationError
from flagcache.stores.redis.connection import RedisLink
from tests.support.redis_links import ESCAPED, SECRET, link_to

# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "address", "database"),
    [
        ("redis://", "redis://localhost:6379/0", 0),
        ("redis://Cache.Internal/2", "redis://cache.internal:6379/2", 2),
        (f"redis://app:{ESCAPED}@cache:6380/?db=4&socket_timeout=9", "redis://cache:6380/4", 4),
        ("redis://[::1]:6380/1", "redis://[::1]:6380/1", 1),
        (f"rediss://:{ESCAPED}@cache:6380/0?ssl_cert_reqs=none", "rediss://cache:6380/0", 0),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0", 0),
        (f"unix://app:{ESCAPED}@/run/redis.sock?db=5", "unix:///run/redis.sock?db=5", 5),
    ],
)
def test_a_url_and_its_client_name_the_same_server(url: str, address: str, database: int) -> None:
    """Address, database and fingerprint are the server's, from a URL or a client, without any secret."""
    with closing(redis.Redis.from_url(url)) as client, link_to(url) as link, link_to(client) as same:
        assert (link.address, link.database) == (same.address, same.database) == (address, database)
        assert link.fingerprint == same.fingerprint
        assert repr(link) == f"<RedisLink {address}>"


def test_fingerprints_tell_servers_and_databases_apart() -> None:
    """Another host, port, database or socket has another fingerprint; another user of the same server has not."""
    urls = ["redis://a/0", "redis://b/0", "redis://a:6380/0", "redis://a/1", "unix:///a", "unix:///b", "unix:///a?db=1"]
    fingerprints = [RedisLink(url, timeout=1).fingerprint for url in urls]
    assert len(set(fingerprints)) == len(urls)
    assert RedisLink(f"redis://app:{ESCAPED}@a/0", timeout=1).fingerprint == fingerprints[0]


@pytest.mark.parametrize(
    ("url", "trouble"),
    [
        (SECRET, "no scheme"),
        (f"http://:{ESCAPED}@host", "http://"),
        (f"redis://:{SECRET}@host:6379/0", "percent-encoded"),
        (f"redis://:{ESCAPED}@host:port/0", "its port"),
        (f"redis://:12/{SECRET}@host/0", "number of a database"),
        (f"redis://:{ESCAPED}@host/flags", "number of a database"),
        (f"redis://:{ESCAPED}@host/-1", "number of a database"),
        (f"redis://:{ESCAPED}@host?db=-1", "database"),
        (f"redis://:{ESCAPED}@host?db=x", "options"),
        (f"redis://:{ESCAPED}@host?shade=blue", "options"),
        (f"rediss://:{ESCAPED}@host?ssl_cert_reqs=maybe", "options"),
        (f"unix://:{ESCAPED}@", "path of the socket"),
    ],
)
def test_a_malformed_url_is_refused_without_its_secrets(url: str, trouble: str) -> None:
    """What is wrong with a URL is said in the constructor; the traceback shows no part of it that may be a secret."""
    with pytest.raises(ConfigurationError) as refused:
        RedisLink(url, timeout=1)
    assert trouble in str(refused.value)
    text = "".join(traceback.format_exception_only(refused.value)) + repr(refused.value.__cause__)
    assert not any(part in text for part in (SECRET, ESCAPED, "s3cr", "word@"))
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize("given", [None, 6379, b"redis://localhost", object(), redis.ConnectionPool()])
def test_what_is_no_client_is_refused(given: object) -> None:
    """Anything but a client or a URL is refused; the message says what was given and what goes there."""
    with pytest.raises(ConfigurationError, match=rf"redis\.RedisCluster.*not .*{type(given).__name__}"):
        RedisLink(cast("str", given), timeout=1)


def test_an_asyncio_client_is_sent_to_the_asyncio_provider() -> None:
    """An asyncio client is refused with the name of the class that takes it."""
    with pytest.raises(ConfigurationError, match=r"asyncio client: AsyncRedisFlagDefinitionCache"):
        RedisLink(cast("redis.Redis", redis.asyncio.Redis()), timeout=1)
