# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""A Redis user who may not publish: every verb works, and names the missing right."""

from __future__ import annotations

import pytest

from flagcache.errors import StoreError
from flagcache.events import PushLost, PushRecovered, StoreLost
from flagcache.stores.base import Published, Scope
from flagcache.stores.redis.store import RedisStore
from flagcache.testing._store.cases import AT_ONCE, LONG, Worker
from flagcache_posthog.testing import RemoteStandIn, make_definitions
from tests.support.attached_clients import attached
from tests.support.fleet_tasks import load, revision
from tests.support.servers import SERVER_NAMES, MakeRedis, RedisServer, until

NAMESPACE = "my-team"
CHANNELS = "&flagcache:*:{my-team}:notices:*"
"""As docs/security.md has them."""

EVERY = 0.5


def without(server: RedisServer, *words: str) -> str:
    """Make a user with every right but these, and return the server's address for this user."""
    rules = ("on", ">secret", "resetchannels", "~*", "+@all", *words)
    server.client().execute_command("ACL", "SETUSER", "poor", *rules)
    return f"redis://poor:secret@127.0.0.1:{server.port}/0"


@pytest.fixture(params=SERVER_NAMES)
def server(request: pytest.FixtureRequest, make_redis: MakeRedis) -> RedisServer:
    """Each of the servers."""
    return make_redis(str(request.param), tcp=True)


@pytest.mark.parametrize(
    ("words", "missing"), [((), CHANNELS), (("&*", "-publish"), "+publish"), (("-publish",), "+publish")]
)
def test_each_verb_does_its_work(server: RedisServer, words: tuple[str, ...], missing: str) -> None:
    """A notice is a hint: each verb takes effect and succeeds without it, and the missing right is named."""
    store = RedisStore(without(server, *words), NAMESPACE, timeout=5.0)
    worker = Worker(store, "me", interval=AT_ONCE)
    assert store.push_refused is None  # none was due yet

    def refused() -> str:
        said, store.push_refused = store.push_refused, None
        return said or ""

    assert worker.publish(grant := worker.granted(), "v1") is Published.STORED
    assert missing in refused()
    assert worker.fail(worker.granted(), Scope.EVERYBODY, status=503, retry_after=1)
    assert missing in refused()
    assert store.confirm("me", "v1", grant._replace(as_of=worker.last_grant), lease=LONG)
    assert missing in refused()  # the note has ended
    assert worker.fail(worker.granted())
    assert missing in refused()  # the lease is free
    worker.granted()
    assert store.release("me", idle=True)
    assert missing in refused()
    assert store.clear() == 1
    assert missing in refused()
    snapshot = store.inspect()
    assert (snapshot.epoch, snapshot.meta, snapshot.leader) == (1, None, "")
    store.close()


def test_the_right_is_given_again(server: RedisServer) -> None:
    """The next notice that is sent ends it; a verb that sends none does not."""
    store = RedisStore(without(server), NAMESPACE, timeout=5.0)
    worker = Worker(store, "me", interval=AT_ONCE)
    worker.bring("v1")
    server.client().execute_command("ACL", "SETUSER", "poor", "&*")
    worker.poll()
    assert store.push_refused
    worker.bring("v2")
    assert store.push_refused == ""
    store.close()


@pytest.mark.parametrize(("words", "missing"), [((), CHANNELS), (("&*", "-subscribe"), "+subscribe")])
def test_a_refused_subscription_names_the_right(server: RedisServer, words: tuple[str, ...], missing: str) -> None:
    """The error names the missing right, for the channel or for the command."""
    store = RedisStore(without(server, *words), NAMESPACE, timeout=5.0)
    with pytest.raises(StoreError) as failed:
        store.subscribe()
    assert failed.value.kind == "rights"
    assert missing in failed.value.what
    store.close()


@pytest.mark.parametrize("words", [(), ("&*", "-publish")])
def test_a_fleet_without_push_goes_on(posthog: RemoteStandIn, make_redis: MakeRedis, words: tuple[str, ...]) -> None:
    """A change costs no outage: polls bring it. That nothing is pushed is one event of the process that publishes."""
    server = make_redis(tcp=True)
    url = without(server, *words)
    contexts = [attached(posthog, url, NAMESPACE, every=EVERY)(index) for index in range(2)]
    try:
        assert [load(context) for context in contexts] == [1, 1]
        for number in range(2, 6):
            posthog.serve(make_definitions(5, revision=number))
            until(lambda: [revision(context) for context in contexts] == [number] * 2, 10 * EVERY, what="a change")  # noqa: B023
        events = [list(context.events) for context in contexts]
        assert not [event for each in events for event in each if isinstance(event, StoreLost)]
        said = [[event for event in each if isinstance(event, PushLost)] for each in events]
        assert [len(each) for each in said if each and each[0].trouble == "push_not_allowed"] == [1]
        assert all(len(each) <= 1 for each in said)
        [event] = [event for each in said for event in each if event.trouble == "push_not_allowed"]
        assert (CHANNELS if not words else "+publish") in str(event)
        assert "secret" not in str(event)
        server.client().execute_command("ACL", "SETUSER", "poor", "&*", "+publish")
        posthog.serve(make_definitions(5, revision=6))
        until(lambda: [revision(context) for context in contexts] == [6] * 2, 10 * EVERY, what="a change")
        leader = next(context for context, each in zip(contexts, said, strict=True) if event in each)
        until(
            lambda: any(isinstance(e, PushRecovered) and e.trouble == "push_not_allowed" for e in list(leader.events)),
            what="the end of it",
        )
    finally:
        for context in contexts:
            context.client.shutdown()
