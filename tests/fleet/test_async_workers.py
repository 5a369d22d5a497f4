from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import pytest
import redis.asyncio

from flagcache import AsyncRedisFlagDefinitionCache
from flagcache_posthog import FlagDefinitionCache
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.fleet_tasks import (
    all_hold,
    asks,
    contexts,
    history,
    key_of,
    leader,
    load,
    never_lost_flags,
    next_request,
    status,
    trouble,
)
from tests.support.grant_log import log_grants
from tests.support.real_fleet import Fleet, MemberContext, RecordingPosthog
from tests.support.servers import RedisServer, until

EVERY = 0.5

LEASE = 2.0
"""Seconds until another worker leads after the leader was killed."""


def awaiting_contexts(
    posthog: StandInControl, server: RedisServer, namespace: str, *, attached: bool
) -> Callable[[int], MemberContext]:
    """Return what makes the context of a member whose cache is awaited, from an asyncio client."""
    host = posthog.url

    def make(index: int) -> MemberContext:
        client = redis.asyncio.Redis.from_url(server.url)
        cache = AsyncRedisFlagDefinitionCache(
            client, namespace, refresh_interval=EVERY, lease=LEASE, auto_attach=attached
        )
        posthog_client = RecordingPosthog(
            "phc_test",
            secret_key=key_of(index),
            host=host,
            poll_interval=EVERY / 2,
            flag_definition_cache_provider=cache,
            flush_at=1,
        )
        if attached:
            cache.attach(posthog_client)
        return MemberContext(posthog_client, cast("FlagDefinitionCache", cache))

    return make


def mixed_contexts(
    posthog: StandInControl, server: RedisServer, namespace: str, *, attached: bool
) -> Callable[[int], MemberContext]:
    """Every second member's cache is awaited."""
    plain = contexts(posthog, server.url, namespace, every=EVERY, poll_interval=EVERY / 2, lease=LEASE)
    awaiting = awaiting_contexts(posthog, server, namespace, attached=attached)

    def make(index: int) -> MemberContext:
        if index % 2:
            return awaiting(index)
        context = plain(index)
        if attached:
            context.cache.attach(context.client)
        return context

    return make


def thread_names(_context: MemberContext) -> list[str]:
    """The threads of a member."""
    return [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "protocol alone"])
def test_workers_that_await_and_workers_that_do_not_are_one_fleet(
    posthog: StandInControl, redis_server: RedisServer, namespace: str, attached: bool
) -> None:
    """One request serves a cold start of both; each follows changes, and takes over from the other.

    Unchanged polls return nothing to an attached client, because its own poller's thread makes them.
    """
    make = mixed_contexts(posthog, redis_server, namespace, attached=attached)
    with log_grants(redis_server.url, namespace) as grants, Fleet(make, 4) as fleet:
        assert fleet.call(load) == [1] * 4
        assert len(asks(posthog)) == 1
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=10)
        leaders_kind = leader(fleet).index % 2
        for member in list(fleet):
            if member.index % 2 == leaders_kind:
                member.kill()
        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=10)
        adopted = [len(each) for each in fleet.call(history)]
        for _ in range(2):
            next_request(posthog)
        assert [len(each) for each in fleet.call(history)] == adopted or not attached
        assert grants.one_an_interval(asks(posthog), EVERY, more=3)  # a killed leader's grant may be followed by others
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "protocol alone"])
def test_children_of_a_preloaded_client_that_awaits_share_one_request_an_interval(
    posthog: StandInControl, redis_server: RedisServer, namespace: str, attached: bool
) -> None:
    """Three forks of a used client, without a call after the fork, are one fleet; each has its own threads."""
    grants = log_grants(redis_server.url, namespace)
    context = awaiting_contexts(posthog, redis_server, namespace, attached=attached)(0)
    try:
        load(context)
        with Fleet(lambda _index: context, 3) as fleet:
            next_request(posthog)
            posthog.serve(make_definitions(5, revision=2))
            all_hold(fleet, 2, within=10)
            next_request(posthog)
            assert grants.one_an_interval(asks(posthog), EVERY)
            assert len({each.worker for each in fleet.call(status)}) == 3
            if attached:
                until(lambda: all("flagcache-listener" in names for names in fleet.call(thread_names)))
            assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
    finally:
        context.client.shutdown()
        grants.close()
