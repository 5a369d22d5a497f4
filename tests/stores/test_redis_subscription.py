from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from flagcache.errors import StoreError
from tests.support.redis_links import clients_seen_by, link_to
from tests.support.servers import MakeRedis, RedisServer

# --- channels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", [False, True])
def test_messages_arrive_as_bytes(redis_server: RedisServer, namespace: str, decode: bool) -> None:
    """What is published after subscribe() returned arrives, in order and as bytes, also what is no text."""
    publisher = redis_server.client()
    with link_to(redis_server.client(decode_responses=decode)) as link, closing(link.subscribe(namespace)) as channel:
        for message in (b"one", b"\xff\x00", b""):
            assert publisher.publish(namespace, message) == 1
        assert [channel.get(5), channel.get(5), channel.get(5)] == [b"one", b"\xff\x00", b""]


def test_silence_is_none_after_the_time(redis_server: RedisServer, namespace: str) -> None:
    """A get with nothing to get waits for its time, shorter or longer than the timeout, and returns None."""
    with link_to(redis_server.url, timeout=0.1) as link, closing(link.subscribe(namespace)) as channel:
        for seconds in (0.0, 0.05, 0.3):
            began = time.monotonic()
            assert channel.get(seconds) is None
            assert seconds - 0.01 <= time.monotonic() - began < seconds + 0.2


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_a_lost_connection_is_told_and_never_opened_again(make_redis: MakeRedis, transport: str) -> None:
    """After the connection is lost every get says so, also when the server is back: messages may have been missed."""
    server = make_redis(tcp=True)
    admin = server.client()
    with link_to(server.tcp_url if transport == "tcp" else server.url) as link:
        lost = link.subscribe("news")
        admin.client_kill_filter(_type="pubsub")
        for _ in range(2):
            with pytest.raises(StoreError):
                lost.get(5)
        assert clients_seen_by(admin) == []
        with closing(link.subscribe("news")) as anew:
            admin.publish("news", "back")
            assert anew.get(5) == b"back"


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_close_wakes_a_waiting_get(redis_server: RedisServer, namespace: str, transport: str) -> None:
    """A get that waits in one thread ends at once when another closes the subscription."""
    ended: list[BaseException | bytes | None] = []
    with link_to(redis_server.tcp_url if transport == "tcp" else redis_server.url) as link:
        channel = link.subscribe(namespace)
        waiting = threading.Event()

        def wait() -> None:
            waiting.set()
            try:
                ended.append(channel.get(60))
            except StoreError as exc:
                ended.append(exc)

        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait(5)
        channel.close()
        channel.close()
        thread.join(2)
        assert not thread.is_alive()
        assert len(ended) == 1
        with pytest.raises(StoreError, match="closed"):
            channel.get(0)


def test_subscribing_to_a_server_that_is_away_fails(make_redis: MakeRedis) -> None:
    """A subscription that the server did not confirm does not exist: gone or frozen, subscribe() says so in time."""
    server = make_redis(tcp=True)
    with link_to(server.tcp_url, timeout=1.0) as link:
        server.freeze()
        began = time.monotonic()
        with pytest.raises(StoreError, match="no answer within"):
            link.subscribe("news")
        assert time.monotonic() - began < 1.9
        server.kill()
        with pytest.raises(StoreError, match="connection refused"):
            link.subscribe("news")
