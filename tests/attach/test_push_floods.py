# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""Another client of Redis may only publish: the cost of its messages for a fleet, and their limits."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager

import pytest
import redis

from flagcache.events import PushLost, StoreLost
from flagcache.stores.base import Notice
from flagcache.stores.redis.store import RedisStore, keys_of
from flagcache.stores.redis.wire import LONGEST_NOTICE
from flagcache_posthog.testing import RemoteStandIn, StandInControl, make_definitions
from tests.support.attached_clients import adopted_at, attached, events_of, holder, leader_of, subscribed
from tests.support.fleet_tasks import all_hold, load, never_lost_flags, trouble
from tests.support.real_fleet import Fleet
from tests.support.request_pace import let_pass
from tests.support.servers import MakeRedis, RedisServer, until

EVERY = 1.0
LONG = 30.0
RATE = 40
WORKERS = 3

FLOODS = {
    "of no known kind": ["x 0 y"],
    "of changes": ["new 0 {:032x}"],
    "of a free lease": ["free 0 "],
    "of all kinds": ["new 0 {:032x}", "free 0 ", "clear 9 ", "note 0 ", "granted 0 {}", "", "\0", "9" * 100_000],
}


def polls_of(admin: redis.Redis) -> int:
    """Return how many scripts the server has run."""
    stats: dict[str, dict[str, int]] = admin.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


@contextmanager
def flooded(server: RedisServer, namespace: str, messages: Sequence[str]) -> Generator[None]:
    """Publish forty messages a second on the fleet's channel meanwhile."""
    stop, channel = threading.Event(), keys_of(namespace, 0).channel

    def publish() -> None:
        with closing(server.client()) as client:
            for number, message in enumerate(itertools.cycle(messages)):
                if stop.wait(1 / RATE):
                    return
                client.publish(channel, message.format(number))

    thread = threading.Thread(target=publish, name="flood", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10.0)


@pytest.mark.parametrize("messages", FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_costs_about_a_poll_a_second(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, messages: Sequence[str]
) -> None:
    """The leader keeps its lease, a real change arrives in about a second, and push continues after the flood."""
    server = make_redis()
    admin = server.client()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY, polls=LONG), WORKERS) as fleet:
        assert fleet.call(load) == [1] * WORKERS
        subscribed(admin, namespace, WORKERS)
        leads = holder(admin, namespace)
        assert leads
        with flooded(server, namespace, messages):
            let_pass(1.0)
            before = polls_of(admin)
            let_pass(4.0)
            # Per second: 2 pushes of each worker (half an interval), a fetch and its verbs, renewals, polls.
            assert polls_of(admin) - before < 4 * (WORKERS * 4 + 6)
            assert holder(admin, namespace) == leads
            posthog.serve(make_definitions(5, revision=2))
            all_hold(fleet, 2, within=10.0)
            times = [adopted_at(member, 2) for member in fleet]
            assert max(times) - min(times) < 2.0
        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=10.0)
        times = [adopted_at(member, 3) for member in fleet]
        assert max(times) - min(times) < 2.0
        leader_of(list(fleet))
        assert not events_of(fleet, PushLost)
        assert not events_of(fleet, StoreLost)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_notices_of_grants_do_not_stop_fetches(posthog: RemoteStandIn, make_redis: MakeRedis, namespace: str) -> None:
    """Forged notices of grants don't stop the fleet: a change arrives within a few intervals."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY, polls=LONG), WORKERS) as fleet:
        fleet.call(load)
        subscribed(server.client(), namespace, WORKERS)
        with flooded(server, namespace, ["granted 0 {}"]):
            for number in (2, 3, 4):
                posthog.serve(make_definitions(5, revision=number))
                all_hold(fleet, number, within=8 * EVERY)


@pytest.mark.parametrize("messages", [FLOODS["of all kinds"][:5], ["granted 0 {}"]], ids=["of all kinds", "of grants"])
def test_a_backlog_of_notices_is_dropped(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, messages: Sequence[str]
) -> None:
    """After 300,000 messages at once the fleet continues as before, and the server keeps none of them."""
    server = make_redis()
    admin, channel = server.client(), keys_of(namespace, 0).channel
    with Fleet(attached(posthog, server.url, namespace, every=EVERY, polls=LONG), WORKERS) as fleet:
        fleet.call(load)
        subscribed(admin, namespace, WORKERS)
        publish = "for i = 1, 300000 do redis.call('PUBLISH', KEYS[1], ARGV[i % #ARGV + 1]) end"
        admin.eval(publish, 1, channel, *(message.format(7) for message in messages))
        waiting = lambda: [int(client["omem"]) for client in admin.client_list() if client["sub"] != "0"]  # noqa: E731
        until(lambda: waiting() == [0] * WORKERS, 10.0, what="listeners that are up to date")
        leads = until(lambda: holder(admin, namespace), what="a leader")
        before = posthog.requests
        let_pass(4 * EVERY)
        assert posthog.requests - before >= 3
        assert holder(admin, namespace) == leads
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=10.0)
        assert not events_of(fleet, PushLost)
        assert not events_of(fleet, StoreLost)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_a_message_that_is_too_long_is_no_notice(make_redis: MakeRedis, namespace: str) -> None:
    """A message that is too long is read and ignored; the next notice arrives."""
    server = make_redis()
    with closing(RedisStore(server.url, namespace)) as store, closing(store.subscribe()) as subscription:
        client = server.client()
        channel = keys_of(namespace, 0).channel
        client.publish(channel, b"new 0 " + b"v" * LONGEST_NOTICE)
        assert subscription.get(5.0) is None
        client.publish(channel, "new 0 v1")
        assert until(lambda: subscription.get(0.1), what="the notice") == Notice("new", 0, "v1")
