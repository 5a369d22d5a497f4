# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
import redis
import redis.asyncio
from redis.asyncio.connection import Connection, ConnectionPool
from redis.asyncio.sentinel import Sentinel
from redis.credentials import CredentialProvider
from redis.sentinel import Sentinel as SynchronousSentinel

from flagcache.errors import ConfigurationError
from flagcache.stores.redis.address import RedisTarget, resolve
from flagcache.stores.redis.asyncio_address import resolve_asyncio
from flagcache.stores.redis.pools import SentinelMaster
from tests.support.redis_links import ESCAPED, READ, SECRET, WRITE, clients_seen_by, execute, link_to
from tests.support.servers import MakeRedis, RedisServer

URLS = [
    "redis://Cache.Internal/2",
    f"redis://app:{ESCAPED}@cache:6380/?db=4&socket_timeout=9",
    "redis://[::1]:6380/1",
    f"rediss://:{ESCAPED}@cache:6380/0?ssl_cert_reqs=none",
    f"unix://app:{ESCAPED}@/run/redis.sock?db=5",
]


def identity_of(target: RedisTarget) -> tuple[str, int, str]:
    """What identifies a server."""
    return target.address, target.database, target.fingerprint


def make_client(**options: object) -> redis.asyncio.Redis:
    """A client as a user makes it; `options` as `redis.asyncio.Redis` takes them."""
    return cast("Callable[..., redis.asyncio.Redis]", redis.asyncio.Redis)(**options)


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", URLS)
def test_an_asyncio_client_names_the_server_that_its_url_names(url: str) -> None:
    """Workers with a URL, a synchronous and an asyncio client of one server share a store, and a fallback file."""
    server = identity_of(resolve(url))
    assert identity_of(resolve_asyncio(url)) == server
    assert identity_of(resolve_asyncio(redis.asyncio.Redis.from_url(url))) == server
    assert identity_of(resolve(redis.Redis.from_url(url))) == server


def test_an_asyncio_sentinel_names_the_service_that_a_synchronous_one_names() -> None:
    """With its sentinels, their credentials, and how many must agree."""
    sentinels, options = [("a", 1), ("b", 2)], {"password": SECRET}
    theirs = Sentinel(sentinels, min_other_sentinels=1, sentinel_kwargs=options, ssl=True).master_for("flags", db=3)
    ours = SynchronousSentinel(sentinels, sentinel_kwargs=options, ssl=True).master_for("flags", db=3)
    found = resolve_asyncio(theirs)
    assert identity_of(found) == identity_of(resolve(ours))
    reach = cast("SentinelMaster", found.reach)
    assert reach.manager.min_other_sentinels == 1
    assert [sentinel.options["password"] for sentinel in reach.sentinels] == [SECRET, SECRET]


def test_an_asyncio_cluster_names_the_nodes_that_it_was_told_of() -> None:
    """An asyncio cluster client knows only those nodes before its first command; one is enough."""
    client = redis.asyncio.RedisCluster("10.0.0.1", 7000, password=SECRET, ssl=True)
    assert resolve_asyncio(client).address == "redis-cluster://10.0.0.1:7000"


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, 6379, b"redis://localhost", object(), ConnectionPool()])
def test_what_is_no_client_is_refused(given: object) -> None:
    """Anything but an asyncio client or a URL is refused; the message says what was given and what is expected."""
    with pytest.raises(ConfigurationError, match=rf"redis\.asyncio\.RedisCluster.*not .*{type(given).__name__}"):
        resolve_asyncio(given)


def test_a_synchronous_client_is_sent_to_the_synchronous_provider() -> None:
    """With the name of the class that takes it."""
    with pytest.raises(ConfigurationError, match=r"synchronous client: RedisFlagDefinitionCache takes it"):
        resolve_asyncio(redis.Redis())


class OwnConnection(Connection):
    """A user's class."""


class OwnSentinel(Sentinel):
    """A user's class."""


class OnlyAsynchronous(CredentialProvider):
    """A credential provider that only event loops can call."""

    async def get_credentials_async(self) -> tuple[str]:
        """As redis-py asks it."""
        return (SECRET,)


async def _on_connect(_connection: Connection) -> None:
    """A user's function."""


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (make_client(connection_pool=ConnectionPool(connection_class=OwnConnection)), "OwnConnection"),
        (make_client(redis_connect_func=_on_connect), "redis_connect_func"),
        (make_client(credential_provider=OnlyAsynchronous()), "OnlyAsynchronous has no get_credentials"),
        (OwnSentinel([("a", 1)]).master_for("flags"), "OwnSentinel"),
        (Sentinel([("a", 1)]).slave_for("flags"), "master_for"),
    ],
    ids=["a class of connections", "a connect function", "an asynchronous provider", "a Sentinel", "a replica"],
)
def test_what_needs_an_event_loop_is_refused(client: redis.asyncio.Redis, reason: str) -> None:
    """What needs an event loop is refused and not ignored: otherwise connections would go elsewhere, or not log in."""
    with pytest.raises(ConfigurationError, match=reason) as refused:
        resolve_asyncio(client)
    assert SECRET not in str(refused.value)


# --- connections ------------------------------------------------------------------------------------------------------


class TokenProvider(CredentialProvider):
    """A credential provider with both kinds of method."""

    def get_credentials(self) -> tuple[str, str]:
        """As redis-py asks it."""
        return "app", SECRET


def test_credentials_and_name_of_an_asyncio_client_are_taken(make_redis: MakeRedis) -> None:
    """User and password, or what a credential provider says; the client itself opens nothing for it."""
    server = make_redis()
    execute(server, "ACL", "SETUSER", "app", "on", f">{SECRET}", "~*", "&*", "+@all")
    admin = server.client()
    logins: list[dict[str, object]] = [
        {"username": "app", "password": SECRET},
        {"credential_provider": TokenProvider()},
    ]
    for login in logins:
        client = make_client(unix_socket_path=str(server.socket_path), db=2, client_name="web", **login)
        before = dict(client.connection_pool.connection_kwargs)
        with link_to(resolve_asyncio(client)) as link:
            assert link.run(WRITE, ["key"], ["value"]) == b"OK"
            [seen] = clients_seen_by(admin)
            assert (seen["user"], seen["name"], seen["db"]) == ("app", "web", "2")
        assert client.connection_pool.connection_kwargs == before


@pytest.mark.parametrize("decode_responses", [False, True])
def test_an_asyncio_client_in_use_stays_as_it_is(redis_server: RedisServer, *, decode_responses: bool) -> None:
    """Its connections are neither used nor closed, however it decodes replies and whichever loop they belong to."""

    async def use() -> None:
        client = redis.asyncio.Redis.from_url(redis_server.url, decode_responses=decode_responses)
        own = await client.client_id()
        with link_to(resolve_asyncio(client)) as link:
            link.run(WRITE, ["key"], [b"\xff"])
            assert link.run(READ, ["key"], []) == b"\xff"
        assert await client.client_id() == own
        await client.aclose()

    asyncio.run(use())
