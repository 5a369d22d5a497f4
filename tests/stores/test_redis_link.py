# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
import redis
from redis.connection import Connection
from redis.credentials import CredentialProvider

from flagcache.errors import StoreError
from flagcache.stores.redis.connection import RedisLink
from tests.support.redis_links import (
    ECHO,
    ESCAPED,
    FAIL,
    READ,
    SECRET,
    WRITE,
    calls_since,
    clients_seen_by,
    link_to,
    make_client,
)
from tests.support.servers import MakeRedis, RedisServer, until

# --- replies and round trips ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", [False, True])
def test_replies_are_bytes_whatever_the_client_decodes(redis_server: RedisServer, decode: bool) -> None:
    """A client with decode_responses gives a link whose replies are bytes, also those that are no text."""
    with link_to(redis_server.client(decode_responses=decode)) as link:
        assert link.run(ECHO, ["key"], [b"\xff"]) == [b"key", b"\xff", 7]
        assert link.run(ECHO, ["key"], [12]) == [b"key", b"12", 7]


def test_every_supported_server_runs_a_script(redis_server_any: RedisServer) -> None:
    """A script runs on each server, over the unix socket that a URL names."""
    with link_to(redis_server_any.url) as link:
        assert link.run(ECHO, ["key"], ["ä"]) == [b"key", "ä".encode(), 7]


def test_a_run_is_one_command(make_redis: MakeRedis) -> None:
    """The first run of a script takes two commands and each further one a single one: no PING, no CLIENT SETINFO."""
    server = make_redis()
    admin = server.client()
    calls_since(admin)
    with link_to(server.url) as link:
        link.run(ECHO, ["key"], ["x"])
        assert calls_since(admin) == {"evalsha": 1, "eval": 1}
        for _ in range(3):
            link.run(ECHO, ["key"], ["x"])
        assert calls_since(admin) == {"evalsha": 3}


def test_a_flushed_script_is_sent_again(make_redis: MakeRedis) -> None:
    """If a server has lost the script, it is sent again within the same call."""
    server = make_redis()
    with link_to(server.url) as link:
        link.run(ECHO, ["key"], ["x"])
        server.client().script_flush()
        assert link.run(ECHO, ["key"], ["x"]) == [b"key", b"x", 7]


def test_a_user_with_few_rights_leaves_no_line_in_the_acl_log(make_redis: MakeRedis) -> None:
    """Nothing but scripts and their commands is asked of a server: a user without CLIENT is never denied anything."""
    server = make_redis()
    admin = server.client()
    admin.execute_command("ACL", "SETUSER", "app", "on", f">{SECRET}", "~*", "&*", "+evalsha", "+eval", "+subscribe")
    with link_to(f"unix://app:{ESCAPED}@{server.socket_path}") as link:
        assert link.run(ECHO, ["key"], ["x"]) == [b"key", b"x", 7]
        link.subscribe("news").close()
    assert admin.acl_log() == []


# --- the client handed in ---------------------------------------------------------------------------------------------


def test_a_client_handed_in_is_neither_used_nor_closed(make_redis: MakeRedis) -> None:
    """A client whose only connection is busy doesn't delay the link, and doesn't notice it or its close."""
    server = make_redis(tcp=True)
    admin = server.client()
    client = make_client(port=server.port, max_connections=1, client_name="web", socket_timeout=5)
    with closing(client), client.pubsub() as busy:
        busy.subscribe("news")
        until(lambda: busy.subscribed and busy.get_message(timeout=1) is not None)
        before = {each["id"] for each in clients_seen_by(admin)}
        with link_to(client) as link:
            link.run(ECHO, ["key"], ["x"])
            link.subscribe("news").close()
        until(lambda: {each["id"] for each in clients_seen_by(admin)} == before, what="our connections to go")
        admin.publish("news", "still here")
        message = cast("dict[str, object]", busy.get_message(timeout=5))
        assert message["data"] == b"still here"


def test_nothing_is_opened_before_the_first_run(make_redis: MakeRedis) -> None:
    """Making a link opens no socket and starts no thread, so that it can be made before a fork."""
    server = make_redis(tcp=True)
    client, admin = make_client(port=server.port), server.client()
    admin.ping()
    files, threads = len([*Path("/proc/self/fd").iterdir()]), threading.active_count()
    with link_to(client), link_to(server.url):
        assert len([*Path("/proc/self/fd").iterdir()]) == files
        assert threading.active_count() == threads
        assert clients_seen_by(admin) == []


def test_database_name_and_credentials_are_the_clients(make_redis: MakeRedis) -> None:
    """The link logs in as the client does, in its database and with its name, but speaks RESP2."""
    server = make_redis(tcp=True, args=("--requirepass", SECRET))
    client = make_client(port=server.port, password=SECRET, db=3, client_name="web-1", protocol=3)
    with closing(client), link_to(client) as link:
        link.run(WRITE, ["key"], ["x"])
        assert client.get("key") == b"x"
        connected = {(each["name"], each["db"], each["resp"]) for each in client.client_list()}
        assert connected == {("web-1", "3", "3"), ("web-1", "3", "2")}
    with link_to(f"redis://:{ESCAPED}@127.0.0.1:{server.port}/3") as link:
        assert link.run(READ, ["key"], []) == b"x"


def test_a_credential_provider_is_asked_for_each_connection(make_redis: MakeRedis) -> None:
    """Credentials that change are asked of the client's provider; one that fails is the store's failure."""
    server = make_redis(tcp=True, args=("--requirepass", SECRET))

    class LateCredentials(CredentialProvider):
        answers: tuple[str, ...] = (SECRET,)

        def get_credentials(self) -> tuple[str]:
            return (self.answers[0],)

    credentials = LateCredentials()
    with link_to(make_client(port=server.port, credential_provider=credentials)) as link:
        assert link.run(ECHO, ["key"], ["x"]) == [b"key", b"x", 7]
        credentials.answers = ()
        server.client(password=SECRET).client_kill_filter(_type="normal", skipme=True)
        for _ in range(2):
            with pytest.raises(StoreError, match="credential provider failed: IndexError"):
                link.run(ECHO, ["key"], ["x"])


def test_options_of_the_users_own_connection_class_are_kept(redis_server: RedisServer) -> None:
    """A connection class that is not redis-py's gets its own options and no others."""
    seen: list[str] = []

    class Tunnelled(Connection):
        def __init__(self, tunnel: str, **options: object) -> None:
            seen.append(tunnel)
            cast("Callable[..., None]", super().__init__)(**options)

    options = {"host": "127.0.0.1", "port": redis_server.port, "tunnel": "t1", "socket_timeout": 99}
    pool = cast("Callable[..., redis.ConnectionPool]", redis.ConnectionPool)(connection_class=Tunnelled, **options)
    with link_to(make_client(connection_pool=pool)) as link:
        assert link.run(ECHO, ["key"], ["x"]) == [b"key", b"x", 7]
    assert set(seen) == {"t1"}


# --- troubles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "unix"])
@pytest.mark.parametrize("password", [False, True])
def test_a_frozen_server_costs_one_timeout(make_redis: MakeRedis, transport: str, password: bool) -> None:
    """On a frozen server a run fails after about one timeout, connected or connecting."""
    server = make_redis(tcp=True, args=("--requirepass", SECRET) if password else ())
    where = {"port": server.port} if transport == "tcp" else {"unix_socket_path": str(server.socket_path)}
    client = make_client(**where, password=SECRET if password else None, socket_timeout=60)
    with link_to(client, timeout=0.8) as connected, link_to(client, timeout=0.8) as connecting:
        connected.run(ECHO, ["key"], ["x"])
        server.freeze()
        for link in (connected, connecting):
            began = time.monotonic()
            with pytest.raises(StoreError, match="no answer within"):
                link.run(ECHO, ["key"], ["x"])
            assert 0.7 < time.monotonic() - began < 1.5
        server.thaw()
        assert connected.run(ECHO, ["key"], ["y"]) == [b"key", b"y", 7]


def test_failures_name_the_address_and_keep_their_cause(make_redis: MakeRedis) -> None:
    """Refused connections, wrong passwords and a script's errors are StoreErrors with the address and no secret."""
    server = make_redis(tcp=True)
    address = f"redis://127.0.0.1:{server.port}/0"
    with link_to(server.tcp_url) as link, link_to(f"redis://:{ESCAPED}@127.0.0.1:{server.port}/0") as intruder:
        with pytest.raises(StoreError, match=f"{address}: .*no such flag") as failed:
            link.run(FAIL, ["key"], [])
        assert isinstance(failed.value.__cause__, redis.ResponseError)
        with pytest.raises(StoreError, match=f"{address}: .*password") as failed:
            intruder.run(ECHO, ["key"], ["x"])
        assert SECRET not in "".join(traceback.format_exception(failed.value))
        server.kill()
        with pytest.raises(StoreError, match=f"{address}: "):
            link.run(ECHO, ["key"], ["x"])


def test_a_restarted_server_is_found_again_without_a_failure(make_redis: MakeRedis) -> None:
    """A connection that the server closed while it was idle is replaced within the run."""
    server = make_redis()
    with link_to(server.url) as link:
        link.run(ECHO, ["key"], ["x"])
        server.stop()
        server.start()
        assert link.run(ECHO, ["key"], ["x"]) == [b"key", b"x", 7]


def test_a_connection_that_lay_idle_is_not_trusted(make_redis: MakeRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute by the wall clock, or when that was stepped back, a new one is made; until then it is kept."""
    server = make_redis()
    now = 1_000_000.0
    monkeypatch.setattr("flagcache.stores.redis.connection.time.time", lambda: now)
    with server.client() as admin, link_to(server.url) as link:

        def connections() -> int:
            link.run(ECHO, ["key"], ["x"])
            return int(cast("dict[str, int]", admin.info("stats"))["total_connections_received"])

        first = connections()
        now += 59
        assert connections() == first
        now += 61
        assert connections() == first + 1
        now -= 3600
        assert connections() == first + 2


def test_a_read_only_server_is_left(make_redis: MakeRedis) -> None:
    """After READONLY the next run connects again: behind the same name there may be a new primary."""
    server = make_redis()
    with link_to(server.url) as link:
        link.run(WRITE, ["key"], ["x"])
        admin = server.client()
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreError, match=r"read only|READONLY"):
            link.run(WRITE, ["key"], ["x"])
        until(lambda: clients_seen_by(admin) == [], what="the connection to be closed")


def test_more_threads_than_connections_take_turns(make_redis: MakeRedis) -> None:
    """Commands of many threads share few connections, and none fails."""
    server = make_redis()
    replies: list[object] = []
    admin = server.client()
    with link_to(server.url, max_connections=2) as link:

        def ask(number: int) -> None:
            replies.extend(link.run(ECHO, ["key"], [number]) for _ in range(20))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sorted(map(str, replies)) == sorted(str([b"key", b"%d" % n, 7]) for n in range(8) for _ in range(20))
        assert 1 <= len(clients_seen_by(admin)) <= 2


def test_a_closed_link_stays_closed(make_redis: MakeRedis) -> None:
    """Closing twice is as good as once; the connections are gone, and what is asked later is refused."""
    server = make_redis()
    admin, link = server.client(), RedisLink(server.url, timeout=1)
    link.run(ECHO, ["key"], ["x"])
    link.close()
    link.close()
    until(lambda: clients_seen_by(admin) == [], what="the connection to be closed")
    with pytest.raises(StoreError, match="closed"):
        link.run(ECHO, ["key"], ["x"])
    with pytest.raises(StoreError, match="closed"):
        link.subscribe("news")


def run(link: RedisLink) -> object:
    """A script."""
    return link.run(ECHO, ["key"], ["y"])


def command(link: RedisLink) -> object:
    """A command of Redis's own."""
    return link.command(["key"], "ECHO", "y")


@pytest.mark.parametrize(("ask", "reply"), [(run, [b"key", b"y", 7]), (command, b"y")])
def test_what_is_under_way_ends_in_order_when_the_link_is_closed(
    make_redis: MakeRedis, ask: Callable[[RedisLink], object], reply: object
) -> None:
    """Closing doesn't wait; the reply of a command under way still arrives, and then its connection is closed."""
    server = make_redis()
    admin, link = server.client(), RedisLink(server.url, timeout=5)
    admin.ping()
    link.run(ECHO, ["key"], ["x"])
    server.freeze()
    replies: list[object] = []
    thread = threading.Thread(target=lambda: replies.append(ask(link)))
    thread.start()
    until(lambda: link._turns._value == 3, what="the run to be under way")  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    link.close()
    server.thaw()
    thread.join(5)
    assert replies == [reply]
    until(lambda: clients_seen_by(admin) == [], what="the connection to be closed")


@pytest.mark.parametrize("ask", [run, command])
def test_after_a_late_patch_each_has_a_connection_of_its_own(
    make_redis: MakeRedis, monkeypatch: pytest.MonkeyPatch, ask: Callable[[RedisLink], object]
) -> None:
    """What another thread has opened is not used, and nothing is left open."""
    server = make_redis()
    admin = server.client()
    with link_to(server.url) as link:
        ask(link)
        opened = ids(admin)
        monkeypatch.setattr("flagcache.stores.redis.connection.patched_late", lambda: True)
        before = connections(admin)
        ask(link)
        assert connections(admin) == before + 1
        until(lambda: ids(admin) == opened, what="the other connection to be closed")


def ids(admin: redis.Redis) -> list[str]:
    """Return the open connections, except the asker's."""
    return [each["id"] for each in clients_seen_by(admin)]


def connections(admin: redis.Redis) -> int:
    """How many the server has taken in all."""
    return int(cast("dict[str, int]", admin.info("stats"))["total_connections_received"])
