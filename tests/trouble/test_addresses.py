"""A host name with two addresses, one of which drops packets."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager

import pytest

from flagcache.errors import StoreError
from tests.support.redis_links import READ, link_to
from tests.support.servers import MakeRedis, RedisServer

HOST = "two.flagcache.test"
TIMEOUT = 1.0

SLACK = 0.5
"""Seconds that a busy machine may add."""


@contextmanager
def swallowing(address: str, port: int) -> Generator[None]:
    """Let connections to this address hang."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        waiting = [socket.socket(family) for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex((address, port))
        try:
            yield
        finally:
            for each in waiting:
                each.close()


class NameServers:
    """Name servers that know one host."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self._system: Callable[..., Sequence[object]] = socket.getaddrinfo

    def look_up(self, host: str, *args: object, **options: object) -> list[object]:
        """As `socket.getaddrinfo`."""
        hosts = self.addresses if host == HOST else (host,)
        return [found for each in hosts for found in self._system(each, *args, **options)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> NameServers:
    """The host has a dead address first, and one that lives."""
    names = NameServers("127.0.0.2", "127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    return names


@pytest.fixture
def server(make_redis: MakeRedis) -> RedisServer:
    """A server that listens only on 127.0.0.1."""
    return make_redis(tcp=True)


def seconds(run: Callable[[], object]) -> float:
    """How long a run takes."""
    began = time.monotonic()
    run()
    return time.monotonic() - began


@pytest.mark.parametrize("dead", [["127.0.0.2"], ["127.0.0.2", "127.0.0.3", "127.0.0.4"]])
def test_the_first_call_gets_through_and_the_next_ones_start_there(
    server: RedisServer, names: NameServers, dead: list[str]
) -> None:
    """The budget is shared among the addresses; each new connection begins with the one that worked last."""
    names.addresses = (*dead, "127.0.0.1")
    with ExitStack() as stack:
        for address in dead:
            stack.enter_context(swallowing(address, server.port))
        link = stack.enter_context(link_to(f"redis://{HOST}:{server.port}/0", timeout=TIMEOUT))
        assert seconds(lambda: link.run(READ, ["x"], [])) < TIMEOUT + SLACK
        assert seconds(lambda: link.subscribe("news").close()) < TIMEOUT / (len(dead) + 1)


def test_the_other_address_takes_over_when_the_one_that_worked_is_silent(
    server: RedisServer, names: NameServers, make_redis: MakeRedis
) -> None:
    """If the address that worked is silent, the same call uses the other one, which is the first from then on."""
    make_redis(args=("--bind", "127.0.0.3", "--port", str(server.port)))
    names.addresses = ("127.0.0.1", "127.0.0.3")
    with link_to(f"redis://{HOST}:{server.port}/0", timeout=TIMEOUT) as link:
        link.run(READ, ["x"], [])
        server.kill()
        with swallowing("127.0.0.1", server.port):
            link.run(READ, ["x"], [])
            assert seconds(lambda: link.subscribe("news").close()) < TIMEOUT / 2


def test_all_addresses_swallow(server: RedisServer, names: NameServers) -> None:
    """If all addresses drop packets, a call takes one budget in all."""
    names.addresses = ("127.0.0.2", "127.0.0.3")
    with swallowing("127.0.0.2", server.port), swallowing("127.0.0.3", server.port):
        with link_to(f"redis://{HOST}:{server.port}/0", timeout=0.5) as link:
            began = time.monotonic()
            with pytest.raises(StoreError) as failed:
                link.run(READ, ["x"], [])
            assert time.monotonic() - began < 0.5 + SLACK
        assert failed.value.kind == "timeout"
