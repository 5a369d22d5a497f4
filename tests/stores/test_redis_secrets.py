# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""A server that does not know AUTH repeats its arguments in its error: no credential of any source is shown."""

from __future__ import annotations

import asyncio
import logging
import socketserver
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from typing import cast
from urllib.parse import quote

import pytest
import redis.asyncio
from posthog import Posthog
from redis.credentials import CredentialProvider
from redis.sentinel import Sentinel

from flagcache.errors import StoreError
from flagcache.events import Event
from flagcache.stores.redis.asyncio_address import resolve_asyncio
from flagcache.stores.redis.connection import RedisLink
from flagcache_posthog import from_url
from flagcache_posthog.testing import PostHogStandIn, make_definitions
from tests.support.redis_links import READ, Source, link_to, make_client
from tests.support.servers import MakeRedis, until

PASSWORD = "pa:ss/wo rd%41é'\"" + "t0ken" * 60
SENTINELS = "sentinels' own"
FORMS = (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), repr(PASSWORD)[1:-1], PASSWORD[:40], SENTINELS)
WORDS = ("s3cret", "pa:ss", "pa%3Ass", "t0ken", SENTINELS, "sentinels'")


class _Echo(socketserver.StreamRequestHandler):
    """Repeats whatever it is sent in an error, as a server does that does not know a command."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            words: list[str] = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:size].decode())
            said = " ".join(words)
            self.wfile.write(f"-ERR cannot do {said} as {quote(said)} or {said[:60]}\r\n".encode())


@contextmanager
def echo_server() -> Generator[int]:
    """A server on 127.0.0.1 that knows no command; its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


class Provider(CredentialProvider):
    """The user's credentials."""

    def get_credentials(self) -> tuple[str, str]:
        """Return both."""
        return "user", PASSWORD


class TokenOnlyProvider(CredentialProvider):
    """A token without a user name."""

    def get_credentials(self) -> tuple[str]:
        """Return it."""
        return (PASSWORD,)


def of_sentinel(port: int) -> Source:
    """A client of the master that sentinels name; the sentinels have their own password."""
    make = cast("Callable[..., Sentinel]", Sentinel)
    manager = make([("127.0.0.1", port)], sentinel_kwargs={"password": SENTINELS}, password=PASSWORD)
    master: redis.Redis = manager.master_for("mymaster")
    return master


def of_url(scheme: str, tail: str) -> Callable[[int], Source]:
    """A URL with the password percent-encoded."""
    return lambda port: f"{scheme}://user:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/{tail}"


SOURCES: dict[str, Callable[[int], Source]] = {
    "url": of_url("redis", "0"),
    "url with the token as user": lambda port: f"redis://{quote(PASSWORD, safe='')}@127.0.0.1:{port}/0",
    "client": lambda port: make_client(port=port, username="user", password=PASSWORD),
    "provider": lambda port: make_client(port=port, credential_provider=Provider()),
    "provider of a token": lambda port: make_client(port=port, credential_provider=TokenOnlyProvider()),
    "asyncio client": lambda port: resolve_asyncio(
        redis.asyncio.Redis(host="127.0.0.1", port=port, username="user", password=PASSWORD)
    ),
    "asyncio provider": lambda port: resolve_asyncio(
        redis.asyncio.Redis(host="127.0.0.1", port=port, credential_provider=Provider())
    ),
    "sentinel": of_sentinel,
    "sentinel url": of_url("redis+sentinel", f"mymaster/0?sentinel_password={quote(SENTINELS)}"),
    "cluster url": of_url("redis+cluster", ""),
}


def shows_nothing(*texts: str) -> None:
    """Fail if a credential, or a part of one, is in these texts."""
    for text in texts:
        for word in (*FORMS, *WORDS):
            assert word not in text, f"{word!r} is in {text!r}"


def run(link: RedisLink) -> object:
    """Send a command."""
    return link.run(READ, ["key"], [])


def subscribe(link: RedisLink) -> object:
    """Open a subscription."""
    return link.subscribe("news")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("call", [run, subscribe])
def test_no_credential_is_in_an_error(source: str, call: Callable[[RedisLink], object]) -> None:
    """Neither the error, nor its causes, nor any repr on the way has a credential in any form."""
    with echo_server() as port, link_to(SOURCES[source](port)) as link:
        with pytest.raises(StoreError) as failed:
            call(link)
        shows_nothing(*traceback.format_exception(failed.value), failed.value.what, repr(link), repr(vars(link)))


def test_an_asyncio_cluster_shows_no_credential() -> None:
    """An asyncio client of a cluster, whose first nodes are those that it was given, shows no credential either."""
    with echo_server() as port:
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=port, username="user", password=PASSWORD)
        with link_to(resolve_asyncio(client)) as link, pytest.raises(StoreError) as failed:
            run(link)
        shows_nothing(*traceback.format_exception(failed.value))
        asyncio.run(client.aclose())


@pytest.mark.parametrize("name", ["redis-6.2", "redis-7.0", "redis-8.2", "valkey-9"])
def test_a_real_server_without_auth(make_redis: MakeRedis, name: str) -> None:
    """A Redis whose AUTH was renamed repeats 128 bytes of a long password; the error says what is wrong without it."""
    server = make_redis(name, tcp=True, args=("--rename-command", "AUTH", ""))
    client = make_client(port=server.port, username="user", password=PASSWORD)
    with closing(client), link_to(client) as link, pytest.raises(StoreError) as failed:
        link.run(READ, ["key"], [])
    shows_nothing(*traceback.format_exception(failed.value))
    assert "unknown command" in failed.value.what


def test_a_cache_logs_and_tells_no_credential(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    """What a cache logs, reports in events and says in its status names the store and no credential."""
    caplog.set_level(logging.DEBUG)
    received: list[Event] = []
    with echo_server() as port, PostHogStandIn(make_definitions(3)) as posthog:
        url = of_url("redis", "0")(port)
        assert isinstance(url, str)
        cache = from_url(url, namespace, on_event=received.append)
        client = Posthog("phc_test", secret_key="phs_0", host=posthog.url, flag_definition_cache_provider=cache)
        client.load_feature_flags()
        until(lambda: received, what="the lost store to be reported")
        shows_nothing(caplog.text, *map(repr, received), *map(str, received), repr(cache.status()), repr(cache))
        assert f"127.0.0.1:{port}" in caplog.text
        client.shutdown()
        shows_nothing(caplog.text)
