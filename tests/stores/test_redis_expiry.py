# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""Redis deletes a namespace: on request, or some time after its last leader."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from flagcache.cli import main
from flagcache.errors import ConfigurationError
from flagcache.settings import Settings
from flagcache.stores.redis.store import RedisStore, keys_of
from flagcache.testing._store.cases import AT_ONCE, LONG, Worker, repair
from flagcache_posthog import RedisFlagDefinitionCache, from_url
from tests.support.servers import SERVER_NAMES, MakeRedis, RedisServer, until

HOUR, DAY = 3_600_000, 86_400_000
NAMESPACE = "preview-42"
KEYS = keys_of(NAMESPACE, 0)


@pytest.fixture(params=SERVER_NAMES)
def server(request: pytest.FixtureRequest, make_redis: MakeRedis) -> RedisServer:
    """Each of the servers."""
    return make_redis(str(request.param), tcp=True)


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    """A client that may do anything."""
    client = server.client()
    yield client
    client.close()


def left(admin: redis.Redis) -> int:
    """The remaining life of the definitions, in milliseconds; -1: unlimited, -2: there are none."""
    return admin.pttl(KEYS.hash)


def test_without_the_option_nothing_expires(server: RedisServer, admin: redis.Redis) -> None:
    """Without `forget_after` no key has a time to live."""
    store = RedisStore(server.url, NAMESPACE)
    worker = Worker(store, "a")
    grant = worker.bring("v1")
    assert store.confirm("a", "v1", grant, lease=LONG)
    assert store.renew("a", LONG)
    assert left(admin) == -1
    store.close()


def test_only_the_leader_keeps_it_alive(server: RedisServer, admin: redis.Redis) -> None:
    """A leader renews the time to live when it publishes, confirms and renews; polls and followers don't."""
    store = RedisStore(server.url, NAMESPACE, forget_after=DAY)
    leader, follower = Worker(store, "a", interval=AT_ONCE), Worker(store, "b")

    def keeps(act: object) -> bool:
        admin.pexpire(KEYS.hash, HOUR)
        assert callable(act)
        act()
        return left(admin) > HOUR

    grant = leader.bring("v1")
    assert left(admin) > HOUR
    assert keeps(lambda: store.confirm("a", "v1", grant, lease=LONG))
    assert keeps(lambda: store.renew("a", LONG))
    assert keeps(lambda: leader.bring("v2"))
    assert not keeps(follower.poll)
    assert not keeps(leader.poll)
    assert not keeps(lambda: store.renew("b", LONG))
    assert not keeps(lambda: store.confirm("b", "v2", grant, lease=LONG))
    assert not keeps(lambda: repair(store, "v3", epoch=1))
    store.close()


def test_what_is_made_without_a_leader_ends_too(server: RedisServer, admin: redis.Redis) -> None:
    """After a grant without a result, and after a repair by a follower, what they leave expires without a renewal."""
    store = RedisStore(server.url, NAMESPACE, forget_after=DAY)
    Worker(store, "a").granted()
    assert HOUR < left(admin) <= DAY
    admin.delete(KEYS.hash, KEYS.lease)
    repair(store, "v1")
    assert HOUR < left(admin) <= DAY
    store.close()


def test_a_namespace_without_a_leader_is_forgotten(server: RedisServer, admin: redis.Redis) -> None:
    """Not a key is left, and the next process begins again."""
    store = RedisStore(server.url, NAMESPACE, forget_after=100)
    Worker(store, "a", lease=100).bring("v1")
    store.release("a", idle=True)
    until(lambda: not admin.keys(f"*{NAMESPACE}*"), what="the keys to go")
    assert Worker(store, "b").poll().grant is not None
    store.close()


def test_a_user_without_the_right_is_told_once(
    server: RedisServer, admin: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """The verbs do their work, and a warning names the right."""
    admin.execute_command("ACL", "SETUSER", "poor", "on", ">secret", "~*", "&*", "+@all", "-pexpire")
    store = RedisStore(f"redis://poor:secret@127.0.0.1:{server.port}/0", NAMESPACE, forget_after=DAY)
    leader = Worker(store, "a")
    grant = leader.bring("v1")
    assert store.confirm("a", "v1", grant, lease=LONG)
    assert store.renew("a", LONG)
    assert left(admin) == -1
    assert len([message for message in caplog.messages if "+pexpire" in message]) == 1
    store.close()


def test_a_full_server_is_still_noticed(server: RedisServer, admin: redis.Redis) -> None:
    """The time to live is set after the first write that needs memory, which such a server refuses."""
    store = RedisStore(server.url, NAMESPACE, forget_after=DAY)
    Worker(store, "a").bring("v1")
    admin.config_set("maxmemory", 1)
    with pytest.raises(Exception, match=r"OOM|memory"):
        store.renew("a", LONG)
    admin.config_set("maxmemory", 0)
    store.close()


def test_people_forget_a_namespace(server: RedisServer, admin: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    """`clear --forget` leaves not a key; without `--yes` it does nothing."""
    store = RedisStore(server.tcp_url, NAMESPACE)
    Worker(store, "a").bring("v1")
    neighbour = RedisStore(server.tcp_url, f"{NAMESPACE}1")
    Worker(neighbour, "a").bring("v1")
    assert main(["clear", server.tcp_url, NAMESPACE, "--forget"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert len(admin.keys("*")) == 4
    assert main(["clear", server.tcp_url, NAMESPACE, "--forget", "--yes"]) == 0
    assert "is deleted" in capsys.readouterr().out
    assert not admin.exists(*KEYS[:2])
    assert len(admin.keys("*")) == 2
    assert main(["clear", server.tcp_url, NAMESPACE, "--forget", "--yes"]) == 0
    assert "has nothing of namespace" in capsys.readouterr().out
    store.close()
    neighbour.close()


def test_it_must_outlive_a_challenge() -> None:
    """Shorter, definitions would go while PostHog is away for a moment; and other stores have no such thing."""
    with pytest.raises(ConfigurationError, match="forget_after must be at least challenge_after"):
        Settings(forget_after=299)
    assert Settings(forget_after=300).forget_after == 300
    assert Settings().forget_after == 0
    with pytest.raises(ConfigurationError, match="only a cache on Redis"):
        from_url("memory://", NAMESPACE, forget_after=86_400)
    with pytest.raises(ConfigurationError, match="only a cache on Redis"):
        from_url("sqlite:///flags.db", NAMESPACE, forget_after=86_400)


def test_a_cache_hands_it_on(server: RedisServer, admin: redis.Redis) -> None:
    """A cache passes `forget_after` in seconds to its store."""
    cache = RedisFlagDefinitionCache(server.url, NAMESPACE, forget_after=86_400, fallback=None, auto_attach=False)
    assert cache.should_fetch_flag_definitions()
    assert HOUR < left(admin) <= DAY
    cache.shutdown()
