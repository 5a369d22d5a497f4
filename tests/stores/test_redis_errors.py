"""Redis's failures are distinguished, in one word and with the server's own text, and its address is named once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from flagcache.errors import StoreError
from flagcache.stores.base import Ask
from flagcache.stores.redis.store import RedisStore
from tests.support.servers import SERVER_NAMES, MakeRedis, free_port

LONG = 60_000
ASK = Ask("me", LONG, LONG, LONG, LONG)


def trouble(url: str, namespace: str = "team") -> StoreError:
    """Poll, which must fail."""
    store = RedisStore(url, namespace, timeout=0.5)
    with pytest.raises(StoreError) as failed:
        store.poll(ASK)
    store.close()
    assert str(failed.value) == f"{store.address}: {failed.value.what}"
    place = url.rpartition("@")[2].removeprefix("redis://").partition("/")[0]
    assert place not in failed.value.what
    assert "user_script" not in failed.value.what
    return failed.value


def admin(url: str) -> redis.Redis:
    """A client that may do anything."""
    return redis.Redis.from_url(url)


def run_command(url: str, *words: str | int) -> None:
    """Give the server an order."""
    client = admin(url)
    client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    client.close()


def test_no_server_and_no_such_host() -> None:
    """There is no way to it."""
    refused = trouble(f"redis://127.0.0.1:{free_port()}/0")
    assert (refused.kind, refused.what) == ("unreachable", "connection refused")
    assert trouble("redis://no-such-host.invalid:6379/0").kind == "unreachable"


def test_a_frozen_server(make_redis: MakeRedis) -> None:
    """A frozen server does not answer in time."""
    server = make_redis(tcp=True)
    server.freeze()
    assert trouble(server.tcp_url).kind == "timeout"
    assert trouble(server.tcp_url).what == "no answer within 0.5 s"
    server.thaw()


def test_a_wrong_password_and_none(make_redis: MakeRedis) -> None:
    """The server's words say which."""
    server = make_redis(tcp=True, args=("--requirepass", "secret"))
    bare = f"redis://127.0.0.1:{server.port}/0"
    for url in (bare, f"redis://:wrong@127.0.0.1:{server.port}/0", f"redis://nobody:x@127.0.0.1:{server.port}/0"):
        found = trouble(url)
        assert found.kind == "password"
        assert "wrong" not in found.what


Wrong = Callable[[str], str]
"""Makes a server refuse; returns the URL that is refused."""


def without_scripts(url: str) -> str:
    """A user who may not run scripts."""
    run_command(url, "ACL", "SETUSER", "poor", "on", ">secret", "~*", "&*", "+@all", "-@scripting")
    return url.replace("redis://", "redis://poor:secret@")


def without_a_command(url: str) -> str:
    """A user whose scripts may not write."""
    run_command(url, "ACL", "SETUSER", "poor", "on", ">secret", "~*", "&*", "+@all", "-hset", "-set")
    return url.replace("redis://", "redis://poor:secret@")


def full(url: str) -> str:
    """A server that has no memory left."""
    run_command(url, "CONFIG", "SET", "maxmemory", 1)
    return url


def replica(url: str) -> str:
    """A server that only follows another one, which is away."""
    run_command(url, "REPLICAOF", "127.0.0.1", free_port())
    return url


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [(without_scripts, "rights"), (without_a_command, "rights"), (full, "full"), (replica, "read_only")],
)
def test_a_server_that_refuses(make_redis: MakeRedis, wrong: Wrong, kind: str) -> None:
    """Rights, memory and a replica have a word each."""
    server = make_redis(tcp=True)
    assert trouble(wrong(server.tcp_url)).kind == kind


@pytest.mark.parametrize("name", SERVER_NAMES)
def test_a_full_server_answers_again_when_it_takes_a_write(make_redis: MakeRedis, name: str) -> None:
    """Polls that only read are refused until then; people are answered."""
    server = make_redis(name)
    store, reads = RedisStore(server.url, "team"), ASK._replace(may_lead=False)
    assert store.poll(ASK).leads
    full(server.url)
    assert store.poll(reads).clock
    for ask in (ASK, reads, reads):
        with pytest.raises(StoreError) as failed:
            store.poll(ask)
        assert failed.value.kind == "full"
    assert store.inspect().clock
    with pytest.raises(StoreError, match=r"OOM|memory"):
        store.poll(reads)  # that it answered people proves nothing
    run_command(server.url, "CONFIG", "SET", "maxmemory", 0)
    assert store.poll(reads).clock
    assert store.poll(ASK).leads
    store.close()


@pytest.mark.parametrize("name", SERVER_NAMES)
def test_the_words_of_every_server_are_known(make_redis: MakeRedis, name: str) -> None:
    """Each server's own words for an error are recognised; they differ most in scripts."""
    server = make_redis(name, tcp=True)
    assert trouble(without_a_command(server.tcp_url)).kind == "rights"
    assert trouble(full(server.tcp_url)).kind == "full"
