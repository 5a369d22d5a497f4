# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""URLs of a Sentinel's master and of a cluster, which redis-py lacks."""

from __future__ import annotations

import traceback
from contextlib import closing

import pytest
from redis.connection import SSLConnection
from redis.sentinel import Sentinel, SentinelManagedSSLConnection

from flagcache.errors import ConfigurationError
from flagcache.stores.redis.address import resolve
from flagcache.stores.redis.connection import RedisLink
from flagcache.stores.redis.pools import ClusterNodes, SentinelMaster, Server
from flagcache.stores.redis.urls import parse_redis_url
from tests.support.redis_links import ESCAPED, SECRET


def master_of(url: str) -> SentinelMaster:
    """What a URL of a Sentinel's master leads to."""
    address = parse_redis_url(url)
    assert isinstance(address, SentinelMaster)
    return address


def cluster_of(url: str) -> ClusterNodes:
    """What a URL of a cluster leads to."""
    address = parse_redis_url(url)
    assert isinstance(address, ClusterNodes)
    return address


def options_of(server: Server, *names: str) -> list[object]:
    """Some of the options with which a server is reached."""
    return [server.options.get(name) for name in names]


def test_a_sentinel_url_names_service_database_and_sentinels() -> None:
    """It leads to the same server as a client of these sentinels, with the same fingerprint."""
    url = "redis+sentinel://b:26380,a,[::1]:5/mymaster/2"
    sentinels = Sentinel([("a", 26379), ("::1", 5), ("b", 26380)])
    client = sentinels.master_for("mymaster", db=2)
    with closing(RedisLink(url, timeout=1)) as link, closing(RedisLink(client, timeout=1)) as same:
        assert (link.address, link.database) == (same.address, same.database) == ("redis-sentinel://mymaster/2", 2)
        assert link.fingerprint == same.fingerprint
    assert resolve("redis+sentinel://a/mymaster").database == 0
    assert resolve("redis+sentinel://a/mymaster?db=3").database == 3
    assert resolve("redis+sentinel://a/my%2Fmaster").address == "redis-sentinel://my/master/0"


def test_each_server_has_its_own_password() -> None:
    """Before the hosts stands what logs in at the master, in the options what logs in at the sentinels."""
    login = "sentinel_username=watcher&sentinel_password=w%26tch"
    master = master_of(f"rediss+sentinel://app:{ESCAPED}@a,b/mymaster/1?{login}&ssl_cert_reqs=none")
    assert master.server.connection_class is SentinelManagedSSLConnection
    names = ("username", "password", "db", "ssl_cert_reqs", "host")
    assert options_of(master.server, *names) == ["app", SECRET, 1, "none", None]
    for sentinel in master.sentinels:
        assert sentinel.connection_class is SSLConnection
        assert options_of(sentinel, *names[:4]) == ["watcher", "w&tch", None, "none"]
    assert options_of(master_of("redis+sentinel://a/m").sentinels[0], "username", "password") == [None, None]


def test_a_cluster_url_names_some_of_its_nodes() -> None:
    """All nodes are learned from them; the names are kept for when all nodes have moved."""
    cluster = cluster_of(f"valkeys+cluster://:{ESCAPED}@a:7000,b,[::1]:7001/0?ssl_cert_reqs=none")
    assert cluster.addresses == cluster.names == (("a", 7000), ("b", 6379), ("::1", 7001))
    assert cluster.server.connection_class is SSLConnection
    assert options_of(cluster.server, "password", "ssl_cert_reqs") == [SECRET, "none"]
    assert cluster.remap("c", 1) == ("c", 1)
    assert not cluster.complete
    assert resolve("redis+cluster://b,a:7000").address == "redis-cluster://a:7000,b:6379"


@pytest.mark.parametrize(
    ("url", "trouble"),
    [
        (f"redis+sentinel://:{ESCAPED}@a:26379", "names the service"),
        (f"redis+sentinel://:{ESCAPED}@a/mymaster/first", "names the service"),
        (f"redis+sentinel://:{ESCAPED}@a,,b/mymaster", "percent-encoded"),
        (f"redis+sentinel://:{ESCAPED}@a:port/mymaster", "percent-encoded"),
        (f"redis+sentinel://:{ESCAPED}@a/mymaster?shade=blue", "options"),
        (f"redis+sentinel://:{SECRET}@a/mymaster", "percent-encoded"),
        (f"redis+cluster://:{ESCAPED}@a,b/1", "no databases"),
        (f"redis+cluster://:{ESCAPED}@a,b?db=1", "no databases"),
        (f"redis+cluster://:{ESCAPED}@a:1:2", "percent-encoded"),
        (f"redis+cluster://:{ESCAPED}@", "percent-encoded"),
        (f"redis+cluster://:{SECRET}@a:6379", "no databases|percent-encoded"),
        (f"redis+ring://:{ESCAPED}@a", r"redis\+ring://"),
        (f"unix+cluster://:{ESCAPED}@a", r"unix\+cluster://"),
    ],
)
def test_a_malformed_one_is_refused_without_its_secrets(url: str, trouble: str) -> None:
    """The constructor refuses a malformed URL, and shows no part of it that may be a secret."""
    with pytest.raises(ConfigurationError, match=trouble) as refused:
        RedisLink(url, timeout=1)
    text = "".join(traceback.format_exception_only(refused.value)) + repr(refused.value.__cause__)
    assert not any(part in text for part in (SECRET, ESCAPED, "s3cr", "word@"))
