# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""A subscription that carries nothing is replaced, and a refused one is retried less and less often."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import cast

import pytest
import redis

from flagcache.errors import StoreError
from flagcache.events import Event, PushLost, PushRecovered
from flagcache.runtime.log_prefix import prefix
from flagcache.stores.redis import connection
from flagcache_posthog.testing import RemoteStandIn, make_definitions
from tests.support.attached_clients import AttachedContext, attached, subscribed
from tests.support.failing_proxy import Behaviour, Proxy
from tests.support.fleet_tasks import load, revision
from tests.support.redis_links import link_to
from tests.support.servers import MakeRedis, RedisServer, until

pytestmark = pytest.mark.usefixtures("no_threads_left")

EVERY = 0.5


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    """A way to the shared Redis."""
    with Proxy(redis_server.port) as proxy:
        yield proxy


@contextmanager
def open_context(posthog: RemoteStandIn, url: str, namespace: str, *, index: int = 0) -> Generator[AttachedContext]:
    """A client in this process, loaded."""
    context = attached(posthog, url, namespace, every=EVERY)(index)
    try:
        load(context)
        yield context
    finally:
        context.client.shutdown()


def test_a_silent_subscription_is_asked_for_a_word(
    proxy: Proxy, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscription whose connection carries nothing any more is lost; one that is only quiet continues."""
    monkeypatch.setattr(connection, "_SILENCE", 0.2)
    with link_to(proxy.url, timeout=0.5) as link, closing(link.subscribe(namespace)) as channel:
        assert channel.get(1.0) is None
        with redis.Redis.from_url(proxy.url) as publisher:
            publisher.publish(namespace, b"one")
            assert channel.get(5.0) == b"one"
        proxy.behave(Behaviour.DEAF)
        began = time.monotonic()
        with pytest.raises(StoreError, match="no answer"):
            channel.get(30.0)
        assert time.monotonic() - began < 5.0


def test_a_subscription_without_the_notice_of_a_change_is_opened_anew(
    posthog: RemoteStandIn, redis_server: RedisServer, proxy: Proxy, namespace: str
) -> None:
    """A poll brings a change, and its notice does not come: the next changes are pushed again."""
    with (
        open_context(posthog, redis_server.url, namespace),
        open_context(posthog, proxy.url, namespace, index=1) as follower,
    ):
        subscribed(redis_server.client(), namespace, 2)
        posthog.serve(make_definitions(5, revision=2))
        until(lambda: revision(follower) == 2, 10 * EVERY, what="a change with its notice")
        proxy.behave(Behaviour.DEAF)
        posthog.serve(make_definitions(5, revision=3))
        until(lambda: revision(follower) == 3, 10 * EVERY, what="a change without its notice")
        assert proxy.subscriptions == 1
        until(lambda: proxy.subscriptions == 2, 15.0, what="a new subscription")
        subscribed(redis_server.client(), namespace, 2)


def test_a_refused_subscription_is_rarely_asked_for(
    posthog: RemoteStandIn, make_redis: MakeRedis, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The polls continue. The refusal is logged once, and once more when the subscription is allowed."""
    server = make_redis(tcp=True)
    admin = server.client()
    admin.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all", "-subscribe")
    url = f"redis://worker:secret@127.0.0.1:{server.port}/0"
    with open_context(posthog, url, namespace) as context:
        for number in range(2, 12):  # ten intervals
            posthog.serve(make_definitions(5, revision=number))
            until(lambda: revision(context) == number, 10 * EVERY, what="a change")  # noqa: B023 - called at once
        lines = [message for message in caplog.messages if "no notices (" in message]
        assert len(lines) == 1
        assert "takes changes with its polls" in lines[0]
        assert "secret" not in lines[0]
        assert refusals(admin) <= 5
        admin.execute_command("ACL", "SETUSER", "worker", "+subscribe")
        [records] = [record for record in caplog.records if "no notices (" in record.getMessage()]
        assert vars(records)["flagcache"]["event"] == "PushLost"
        assert context.cache.status().trouble == "push_refused"
        again = f"{prefix(namespace)}: changes are pushed again after "
        until(lambda: any(m.startswith(again) for m in caplog.messages), 20.0, what="a subscription")
        subscribed(admin, namespace, 1)
        assert kinds(context, PushLost, PushRecovered) == ["PushLost", "PushRecovered"]
        assert context.cache.status().trouble == ""


def kinds(context: AttachedContext, *wanted: type[Event]) -> list[str]:
    """The events of these kinds."""
    return [type(event).__name__ for event in list(context.events) if isinstance(event, wanted)]


def refusals(admin: redis.Redis) -> int:
    """How often a subscription was refused."""
    entries = cast("list[dict[str, object]]", admin.acl_log())
    return sum(int(str(entry["count"])) for entry in entries if entry["object"] in ("subscribe", b"subscribe"))
