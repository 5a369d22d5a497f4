"""Whole caches on every kind of server and with every kind of client: one fetch serves all, and changes are pushed."""

from __future__ import annotations

from contextlib import closing
from urllib.parse import quote

import pytest

from tests.stores.shared_definitions import clients_share
from tests.support.redis_links import make_client
from tests.support.servers import MakeRedis, RedisServer

STRANGE = "p@ss:w/rd%20?#é"


def test_every_supported_server(redis_server_any: RedisServer, namespace: str) -> None:
    """A fleet shares on Redis 6.2, 7.0 and 8.2 and Valkey 9, over a unix socket."""
    clients_share(redis_server_any.url, namespace)


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"max_connections": 1}, {"protocol": 3}])
def test_every_kind_of_client(redis_server: RedisServer, namespace: str, options: dict[str, object]) -> None:
    """The options of the client that was passed in concern only that client, which still works."""
    with closing(make_client(port=redis_server.port, **options)) as client:
        clients_share(client, namespace)
        assert client.ping()


@pytest.mark.parametrize("by_url", [False, True])
def test_a_password_with_strange_characters(make_redis: MakeRedis, namespace: str, by_url: bool) -> None:
    """A password with such characters is percent-encoded in a URL, and passed unchanged to a client."""
    server = make_redis(tcp=True, args=("--requirepass", STRANGE))
    if by_url:
        clients_share(f"redis://:{quote(STRANGE, safe='')}@127.0.0.1:{server.port}/0", namespace)
    else:
        with closing(make_client(port=server.port, password=STRANGE)) as client:
            clients_share(client, namespace)
