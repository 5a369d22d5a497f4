# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis

from flagcache.events import DefinitionsRepaired, PayloadRefused
from flagcache.stores.redis.store import RedisStore, keys_of
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.attached_clients import attached, events_of, polls_until, subscribed
from tests.support.fleet_tasks import all_hold, leader, load, logs, never_lost_flags, poll, shutdown, trouble
from tests.support.real_fleet import Fleet
from tests.support.servers import SERVER_NAMES, MakeRedis, RedisServer, until

EVERY = 0.5
LONG = 30.0
NAMESPACE = "my-team"
"""As in the document."""

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"


def documented() -> list[str]:
    """The words of the command in the document."""
    found = re.search(r"```acl\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1].split()


def under_the_document(make_redis: MakeRedis, name: str, *more: str) -> tuple[RedisServer, redis.Redis, str]:
    """Return a server, its master, and its address for the documented user."""
    server = make_redis(name, tcp=True)
    admin = server.client()
    words = documented()
    assert words[:2] == ["ACL", "SETUSER"]
    admin.execute_command(*words, *more)
    return server, admin, f"redis://{words[2]}:PASSWORD@127.0.0.1:{server.port}/0"


def denied(admin: redis.Redis) -> Sequence[object]:
    """Commands that Redis refused."""
    return admin.acl_log()


@pytest.mark.parametrize("name", SERVER_NAMES)
def test_the_documented_rights_are_enough(posthog: StandInControl, make_redis: MakeRedis, name: str) -> None:
    """Under the document's ACL a fleet boots, pushes, repairs, discards, hands over and ends, and is denied nothing."""
    _, admin, url = under_the_document(make_redis, name)
    with Fleet(attached(posthog, url, NAMESPACE, every=EVERY, polls=LONG), 4) as fleet:
        assert fleet.call(load) == [1] * 4
        subscribed(admin, NAMESPACE, 4)
        posthog.serve(make_definitions(5, revision=2))
        leader(fleet).call(polls_until, 2)
        all_hold(fleet, 2, within=5.0)  # pushed: none polls of itself within the test

        keys = keys_of(NAMESPACE, 0)
        admin.delete(keys.hash)
        fleet.call(poll)
        until(lambda: events_of(fleet, DefinitionsRepaired), what="the holders to republish")
        admin.hset(keys.hash, "payload", b"x" * int(admin.hget(keys.hash, "size") or 0))
        admin.hincrby(keys.hash, "as_of", 1)
        admin.hset(keys.hash, "version", "forged")
        fleet.call(poll)
        until(lambda: events_of(fleet, PayloadRefused), what="a worker to discard it")
        for key in keys[:2]:
            with admin.pipeline() as at_once:  # a worker may write in between
                at_once.delete(key)
                at_once.sadd(key, "of another type")
                at_once.execute()
        fleet.call(poll)
        leading = leader(fleet)
        leading.call(shutdown)
        for member in fleet:
            if member is not leading:  # which could take the lease again
                member.call(poll)
        until(lambda: leader(fleet) is not leading, what="another leader")
        assert not [line for lines in fleet.call(logs) for line in lines if "does not answer" in line.text]
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
        fleet.call(shutdown)
    assert RedisStore(url, NAMESPACE).clear() > 0
    assert RedisStore(url, NAMESPACE).inspect().epoch > 0
    assert not denied(admin)


def test_the_documented_rights_are_no_more_than_that(make_redis: MakeRedis) -> None:
    """Under the document's ACL a user can't reach another namespace, another key or another channel."""
    server, admin, url = under_the_document(make_redis, "redis-6.2")
    with redis.Redis.from_url(url) as intruder:
        for command in (
            ("GET", "session:1"),
            ("HGETALL", keys_of(NAMESPACE, 0).hash),
            ("PUBLISH", "news", "x"),
            ("KEYS", "*"),
            ("FLUSHALL",),
            ("CONFIG", "GET", "*"),
            ("SELECT", "1"),
            ("EVAL", "return redis.call('GET', KEYS[1])", "1", keys_of("other-team", 0).hash),
            ("EVAL", "return redis.call('PUBLISH', 'news', 'x')", "0"),
        ):
            with pytest.raises(redis.ResponseError, match=r"(?i)permission|can.t publish"):
                intruder.execute_command(*command)
    assert denied(admin)
    assert server.name == "redis-6.2"


@pytest.mark.parametrize("name", ["redis-6.2", "redis-8.2"])
def test_the_documented_rights_for_another_database(make_redis: MakeRedis, name: str) -> None:
    """With the right that the document adds for it, another database than 0 works, and is denied nothing."""
    _, admin, url = under_the_document(make_redis, name, "+select")
    store = RedisStore(url.removesuffix("0") + "3", NAMESPACE)
    assert store.clear() == 1
    store.close()
    assert not denied(admin)


def test_every_documented_command_is_needed(make_redis: MakeRedis) -> None:
    """No right in the document is there for nothing: each command is called by a script, or by us."""
    scripts = "".join(path.read_text() for path in (Path(__file__).parents[2] / "flagcache/stores/redis").glob("*.lua"))
    called = {command.lower() for command in re.findall(r"(?:call|read)\('([A-Z]+)'", scripts)}
    granted = {word[1:] for word in documented() if word.startswith("+")}
    optional = {"pexpire", "info"}  # of the table below the command: features that work, or are off, without the right
    assert granted == called - optional | {"eval", "evalsha", "subscribe"}
    assert all(f"`+{command}`" in DOCUMENT.read_text(encoding="utf-8") for command in optional)
