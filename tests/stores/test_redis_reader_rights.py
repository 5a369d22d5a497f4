# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""A reader whose Redis user may only read, on each server: it reads what workers store, and changes nothing."""

from __future__ import annotations

import re
import secrets
from contextlib import closing
from pathlib import Path
from typing import Literal, cast

import pytest
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache import RedisFlagDefinitionCache
from flagcache.errors import StoreError
from flagcache.events import DefinitionsChanged, Event, PayloadRefused, StoreLost
from flagcache.stores.base import Ask, Grant, Meta, Published, Scope
from flagcache.stores.base import Envelope as Content
from flagcache.stores.redis.reader import RedisReaderStore
from flagcache.stores.redis.store import RedisStore, keys_of
from flagcache_posthog.testing import make_definitions
from tests.support.redis_links import execute
from tests.support.servers import SERVER_NAMES, MakeRedis, RedisServer, until

NAMESPACE = "my-team"
DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
KEYS = "~flagcache:*:{my-team}:*"
COMMANDS = ("+time", "+get", "+pttl", "+hget", "+hmget", "+hstrlen")
"""What a reader's scripts call."""

EVAL, EVAL_RO = ("+eval", "+evalsha"), ("+eval_ro", "+evalsha_ro")
LONG = 60_000


def documented() -> list[str]:
    """Return the words of the reader's command in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    [found] = re.findall(r"```acl-reader\n(.*?)```", text, re.DOTALL)
    return cast("str", found).split()


def as_user(server: RedisServer, *words: str) -> str:
    """Make a user with these rights, and return this user's URL."""
    execute(server, "ACL", "SETUSER", "poor", "reset", "on", ">secret", "resetchannels", *words)
    return f"redis://poor:secret@127.0.0.1:{server.port}/0"


def contents(server: RedisServer) -> object:
    """All that the server holds."""
    keys = cast("list[bytes]", execute(server, "KEYS", "*"))
    return {key: execute(server, "DUMP", key) for key in keys}


def fill(server: RedisServer, revision: int = 1) -> None:
    """Have a worker store definitions, and go."""
    worker = RedisFlagDefinitionCache(server.tcp_url, NAMESPACE, fallback=None, auto_attach=False, refresh_interval=0.5)
    until(worker.should_fetch_flag_definitions, what="a grant")
    worker.on_flag_definitions_received(cast("FlagDefinitionCacheData", make_definitions(3, revision=revision)))
    worker.shutdown()


def assert_reads(server: RedisServer, url: str) -> None:
    """Fail unless a reader takes what is stored, gets "unchanged", and changes nothing."""
    fill(server)
    before, events = contents(server), list[Event]()
    reader = RedisFlagDefinitionCache(url, NAMESPACE, role="reader", auto_attach=False, on_event=events.append)
    for _ in range(3):
        assert reader.should_fetch_flag_definitions() is False
    assert reader.get_flag_definitions() == make_definitions(3)
    assert [type(event) for event in events] == [DefinitionsChanged]
    reader.shutdown()
    assert contents(server) == before


@pytest.fixture(params=SERVER_NAMES)
def server(request: pytest.FixtureRequest, make_redis: MakeRedis) -> RedisServer:
    """Each of the servers."""
    return make_redis(str(request.param), tcp=True)


def test_the_documented_rights_are_enough(server: RedisServer) -> None:
    """Under the document's ACL for readers a poll reads, and nothing is denied."""
    words = documented()
    assert words[:2] == ["ACL", "SETUSER"]
    execute(server, *words)
    assert_reads(server, f"redis://{words[2]}:PASSWORD@127.0.0.1:{server.port}/0")
    assert execute(server, "ACL", "LOG") == []


def test_the_documented_rights_are_those_to_read(server: RedisServer) -> None:
    """The document's ACL for readers has the commands that read, the scripts that call them, and no other."""
    granted = {word for word in documented() if word.startswith("+")}
    assert granted == {*COMMANDS, *EVAL, "+subscribe"}
    execute(server, *documented())
    with closing(RedisStore(f"redis://flagcache-reader:PASSWORD@127.0.0.1:{server.port}/0", NAMESPACE)) as store:
        for write in (store.clear, store.forget, lambda: store.poll(Ask("me", LONG, LONG, LONG, LONG))):
            with pytest.raises(StoreError) as failed:
                write()
            assert failed.value.kind == "rights"
    assert execute(server, "DBSIZE") == 0


@pytest.mark.parametrize("keys", [KEYS, f"%R{KEYS}"])
@pytest.mark.parametrize("name", ["redis-7.0", "redis-8.2", "valkey-9"])
def test_read_only_scripts_are_enough(make_redis: MakeRedis, name: str, keys: str) -> None:
    """From Redis 7.0 on, a user with only `EVAL_RO`, or only the right to read its keys, is enough."""
    server = make_redis(name, tcp=True)
    assert_reads(server, as_user(server, keys, *COMMANDS, *EVAL_RO))


def test_a_reader_hears_notices(server: RedisServer) -> None:
    """With the right to its channel it can subscribe."""
    url = as_user(server, KEYS, "&flagcache:*:{my-team}:notices:*", *COMMANDS, *EVAL, "+subscribe")
    with closing(RedisReaderStore(url, NAMESPACE)) as store, closing(store.subscribe()) as subscription:
        fill(server)
        notice = until(lambda: subscription.get(0.1), what="a notice")
        assert notice is not None
        assert notice.kind == "new"


def test_a_right_that_is_missing_is_named(make_redis: MakeRedis) -> None:
    """If it may run neither kind of script, the first refusal is raised, and names the right."""
    server = make_redis(tcp=True)
    with closing(RedisReaderStore(as_user(server, KEYS, *COMMANDS), NAMESPACE)) as store:
        with pytest.raises(StoreError, match="evalsha'") as failed:
            store.poll(Ask("me", LONG, LONG, LONG, LONG))
        assert failed.value.kind == "rights"


def test_rights_may_change_under_a_reader(make_redis: MakeRedis) -> None:
    """A reader that used one kind of script continues with the other."""
    server = make_redis(tcp=True)
    url = as_user(server, KEYS, *COMMANDS, *EVAL_RO)
    reader = RedisFlagDefinitionCache(url, NAMESPACE, role="reader", auto_attach=False, poll_interval=0.1)
    fill(server)
    assert reader.should_fetch_flag_definitions() is False
    assert reader.get_flag_definitions() == make_definitions(3)
    execute(server, "ACL", "SETUSER", "poor", "-eval_ro", "-evalsha_ro", *EVAL)
    fill(server, 2)

    def is_up_to_date() -> bool:
        reader.should_fetch_flag_definitions()
        return reader.get_flag_definitions() == make_definitions(3, revision=2)

    until(is_up_to_date, what="the change")
    reader.shutdown()


@pytest.mark.parametrize("name", ["signing_key", "encryption_key"])
def test_starts_with_a_wrong_key_leave_the_store_as_it_is(make_redis: MakeRedis, name: str) -> None:
    """Forty starts of a reader with a wrong key, and with rights to everything, change not a byte."""
    server = make_redis(tcp=True)

    def cache(key: str, role: Literal["worker", "reader"]) -> RedisFlagDefinitionCache:
        return RedisFlagDefinitionCache(
            *(server.tcp_url, NAMESPACE),
            role=role,
            fallback=None,
            auto_attach=False,
            signing_key=key if name == "signing_key" else None,
            encryption_key=key if name == "encryption_key" else None,
        )

    worker = cache(secrets.token_hex(32), "worker")
    assert worker.should_fetch_flag_definitions()
    worker.on_flag_definitions_received(cast("FlagDefinitionCacheData", make_definitions(3)))
    worker.shutdown()
    before, wrong = contents(server), secrets.token_hex(32)
    for _ in range(40):
        reader = cache(wrong, "reader")
        assert reader.should_fetch_flag_definitions() is False
        reader.shutdown()
    assert contents(server) == before


def test_starts_of_a_reader_leave_what_is_broken(make_redis: MakeRedis) -> None:
    """What no process can read stays too, for a worker to discard."""
    server = make_redis(tcp=True)
    fill(server)
    key = keys_of(NAMESPACE, 0).hash
    size = int(cast("bytes", execute(server, "HGET", key, "size")))
    execute(server, "HSET", key, "payload", b"x" * size)
    before, events = contents(server), list[Event]()
    for _ in range(40):
        reader = RedisFlagDefinitionCache(
            server.tcp_url, NAMESPACE, role="reader", auto_attach=False, on_event=events.append
        )
        assert reader.should_fetch_flag_definitions() is False
        reader.shutdown()
    assert contents(server) == before
    assert len([event for event in events if isinstance(event, PayloadRefused)]) == 40
    assert "a reader deletes nothing" in str(next(event for event in events if isinstance(event, PayloadRefused)))
    assert not [event for event in events if isinstance(event, StoreLost)]


def test_the_store_of_a_reader_has_no_verb_that_writes(make_redis: MakeRedis) -> None:
    """Verbs that would repair what is stored do nothing; others are refused before Redis is asked."""
    server = make_redis(tcp=True)
    fill(server)
    before = contents(server)
    with closing(RedisReaderStore(server.tcp_url, NAMESPACE)) as store:
        meta = store.inspect().meta
        assert meta is not None
        grant = Grant(meta.epoch, meta.as_of + 1, meta.as_of + 1)
        content = Content(Meta("v2", meta.epoch, meta.as_of + 1, 1, 1), b"x")
        assert store.publish("me", content, fresh=True, lease=LONG) is Published.UNSETTLED
        assert store.discard("me", meta.version) is store.report("me", meta.version, 1) is False
        assert store.poll(Ask("me", LONG, LONG, LONG, LONG)).leads is False
        for refused in (
            lambda: store.confirm("me", meta.version, grant, lease=LONG),
            lambda: store.fail("me", 1, Scope.MINE),
            lambda: store.renew("me", LONG),
            lambda: store.release("me", idle=True),
            store.clear,
            store.forget,
        ):
            with pytest.raises(StoreError, match="a reader writes nothing"):
                refused()
    assert contents(server) == before
