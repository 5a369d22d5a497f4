from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from posthog import Posthog

from flagcache.events import FetchFailed
from flagcache.stores.redis.store import RedisStore
from flagcache.vendor import FetchResult
from flagcache_posthog.fetcher import PostHogFetcher
from flagcache_posthog.testing import (
    Drip,
    Drop,
    PostHogStandIn,
    Refuse,
    StandInControl,
    make_certificate,
    make_definitions,
)
from tests.support.attached_clients import (
    attached,
    leader_of,
    leads,
    only_own_fetches,
    polls_until,
    timed_load,
    timed_poll,
)
from tests.support.fleet_tasks import (
    all_hold,
    asks,
    history,
    in_order,
    leader,
    load,
    never_lost_flags,
    next_request,
    poll,
    revision,
    shutdown,
    status,
    trouble,
)
from tests.support.grant_log import log_grants
from tests.support.own_threads import threads_of
from tests.support.real_fleet import Fleet, MemberContext
from tests.support.servers import until

EVERY = 0.4
LONG = 30.0


def test_no_sdk_of_an_attached_fleet_fetches(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """From the cold start on only the fleet's own fetch asks, once per interval, and in full only for a change."""
    make = attached(posthog, redis_url, namespace, every=EVERY)
    with log_grants(redis_url, namespace) as grants, Fleet(make, 4) as fleet:
        assert fleet.call(load) == [1] * 4
        posthog.wait_for_requests(4, timeout=10 * EVERY)
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=3 * EVERY)
        next_request(posthog)
        requests = asks(posthog)
        assert only_own_fetches(requests)
        assert [request.status for request in requests].count(200) == 2
        assert all(request.if_none_match for request in requests[1:])
        assert grants.one_an_interval(requests, EVERY)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_a_slow_first_fetch_serves_a_whole_cold_fleet(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """The short lease of an empty store is renewed during the first fetch, so there is one fetch."""
    posthog.set_delay(2.5)
    with Fleet(attached(posthog, redis_url, namespace, every=30.0, cold_start_wait=4.0), 4) as fleet:
        assert fleet.call(load) == [1] * 4
        assert posthog.requests == 1
        assert [leads(member) for member in fleet].count(True) == 1


def fetches_on(_context: MemberContext) -> bool:
    """Whether the fleet's own fetch is under way in this member."""
    return "flagcache-fetch" in threads_of()


def test_without_a_wait_the_own_fetch_is_not_waited_for(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """With `cold_start_wait=0` a first load ends before its fetch; the push brings the fetch's result."""
    posthog.set_delay(1.5)
    make = attached(posthog, redis_url, namespace, every=LONG, cold_start_wait=0, store_timeout=10.0)
    with Fleet(make, 1) as fleet:
        (member,) = fleet
        assert member.call(load) is None
        assert member.call(fetches_on)
        all_hold(fleet, 1, within=10.0)


def count_fetches(context: MemberContext) -> None:
    """From now on record each of the fleet's own fetches."""
    fetch = PostHogFetcher.fetch

    def counted(self: PostHogFetcher, etag: str) -> FetchResult:
        logging.getLogger("flagcache").warning("a fetch")  # the member's process keeps it
        return fetch(self, etag)

    PostHogFetcher.fetch = counted  # type: ignore[method-assign]  # in the member's process, which ends with the test


def counted_fetches(context: MemberContext) -> int:
    """Return how many were recorded."""
    return sum(line.text == "a fetch" for line in context.logs)


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_a_grant_is_one_request_whatever_goes_wrong(
    redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    """Dropped connections, 503s with Retry-After and definitions cost one request per grant, over http and https."""
    certificate = make_certificate(tmp_path) if secure else None
    if certificate is not None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate.ca_file)
    posthog = PostHogStandIn.spawn(make_definitions(5), certificate=certificate)
    try:
        with Fleet(attached(posthog, redis_url, namespace, every=EVERY, polls=LONG), 1) as fleet:
            member = fleet.members[0]
            assert member.call(load) == 1
            member.call(count_fetches)
            posthog.serve(make_definitions(5, revision=2))
            for fault in (Refuse(503, retry_after=0), Drop()):
                seen = posthog.requests
                posthog.fail(fault)
                until(lambda: (member.call(poll), posthog.requests)[1] > seen, 5.0, every=0.05, what="a request")  # noqa: B023
                posthog.recover()
            member.call(polls_until, 2)
            until(lambda: posthog.requests - 1 == member.call(counted_fetches), what="a request for each fetch")
            assert only_own_fetches(posthog.served())
    finally:
        posthog.stop()


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_one_dropped_connection_on_an_empty_store_is_tried_again_at_once(
    redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    """The first load of a fleet has flags at once, like a plain client over https, and both requests are counted."""
    certificate = make_certificate(tmp_path) if secure else None
    if certificate is not None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate.ca_file)
    with PostHogStandIn(make_definitions(5), certificate=certificate) as posthog:
        context = attached(posthog, redis_url, namespace, every=LONG)(0)
        posthog.fail(Drop(), times=1)
        began = time.monotonic()
        context.client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        took = time.monotonic() - began
        assert revision(context) == 1
        assert context.cache.status().fetches == posthog.requests == 2
        assert not [event for event in context.events if isinstance(event, FetchFailed)]
        assert took < 3.0
        if secure:
            posthog.fail(Drop(), times=1)
            with plain_client(posthog.url) as plain:
                plain.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
                assert plain.feature_flags
        context.client.shutdown()


@pytest.mark.slow
def test_a_body_that_flows_for_longer_than_the_fetch_timeout_arrives(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """With default settings a body that takes 13 s arrives, as it does in a plain client."""
    context = attached(posthog, redis_url, namespace, every=1.0)(0)
    with plain_client(posthog.url) as plain:
        for client in (context.client, plain):
            client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        posthog.fail(Drip(13.0))
        posthog.serve(make_definitions(5, revision=2))
        plain.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        until(lambda: revision(context) == 2, 5.0, what="the same in the fleet")
        assert context.client.feature_flags == plain.feature_flags
        assert not [event for event in context.events if isinstance(event, FetchFailed)]
        posthog.recover()
    context.client.shutdown()


@contextmanager
def plain_client(host: str) -> Generator[Posthog, None, None]:
    """A client without a cache."""
    client = Posthog("phc_test", secret_key="phs_plain", host=host, poll_interval=3600, send=False)
    try:
        yield client
    finally:
        client.shutdown()


def test_a_new_leader_goes_on_with_the_old_ones_etag(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """After one leader was shut down and the next one killed, an unchanged poll still costs 1 flag request, not 10."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 4) as fleet:
        fleet.call(load)
        posthog.reset_counts()
        first = leader(fleet)
        first.call(shutdown)
        rest = [member for member in fleet if member is not first]
        second = leader_of(rest)
        next_request(posthog)
        second.kill()
        leader_of([member for member in rest if member is not second])
        next_request(posthog)
        next_request(posthog)
        assert posthog.full_fetches == 0
        assert {request.status for request in asks(posthog)[1:]} == {304}


def test_a_restarted_fleet_pays_for_an_unchanged_poll(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """Processes that start when all others have ended find definitions and entity tag in the store."""
    make = attached(posthog, redis_url, namespace, every=EVERY)
    with Fleet(make, 3) as fleet:
        fleet.call(load)
        fleet.call(shutdown)
    posthog.reset_counts()
    with Fleet(make, 3) as fleet:
        assert fleet.call(load) == [1] * 3
        next_request(posthog)
        next_request(posthog)
        assert posthog.full_fetches == 0
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=4 * EVERY)


def test_a_rolling_replacement_costs_no_full_fetch(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """Each of eight workers is replaced by a new process in turn: no full fetch, and no worker without flags."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 8) as fleet:
        fleet.call(load)
        posthog.reset_counts()
        for old in list(fleet):
            assert fleet.join(1)[0].call(load) == 1
            old.call(shutdown)
            old.kill()
        assert len(list(fleet)) == 8
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=4 * EVERY)
        requests = asks(posthog)[1:]
        assert [request.status for request in requests].count(200) == 1  # the change
        assert all(request.if_none_match for request in requests)
        assert only_own_fetches(requests)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_going_back_to_an_older_content_reaches_all(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """After v1, v2 fetched by another worker, and v1 again, all hold v1: a worker's own entity tag can't mislead it."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        first = leader(fleet)
        first.freeze()  # the fetcher of v1; another one takes over and fetches v2
        others = [member for member in fleet if member is not first]
        leader_of(others)
        posthog.serve(make_definitions(5, revision=2))
        all_hold(others, 2, within=4 * EVERY)
        first.thaw()
        all_hold(fleet, 2, within=4 * EVERY)
        for member in others:
            member.freeze()
        posthog.serve(make_definitions(5, revision=1))
        all_hold([first], 1, within=6 * EVERY)
        for member in others:
            member.thaw()
        all_hold(fleet, 1, within=4 * EVERY)
        next_request(posthog)
        next_request(posthog)
        all_hold(fleet, 1, within=1.0)
        truths = posthog.truths()
        assert all(in_order(each, truths) for each in fleet.call(history))


def test_an_unchanged_answer_moves_everybodys_confirmed_age(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """While PostHog answers 304, each worker's age stays under two intervals and the age of the change grows."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        posthog.wait_for_requests(6, timeout=12 * EVERY)

        def confirmed() -> bool:
            ages = [(each.age, each.changed_age) for each in fleet.call(status)]
            return all(age and changed and age < 2.5 * EVERY and changed > 4 * EVERY for age, changed in ages)

        until(confirmed, what="ages that only a confirmation explains")
        assert posthog.full_fetches == 1


def test_who_starts_with_good_definitions_waits_for_no_fetch(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """A new worker that leads at once starts with what the store has; its fetch's result is pushed to it."""
    options = attached(posthog, redis_url, namespace, every=EVERY, polls=LONG, store_timeout=2.0)
    with Fleet(options, 1) as fleet:
        fleet.call(load)
        fleet.call(shutdown)
        posthog.serve(make_definitions(5, revision=2))
        posthog.hold(times=1)
        (new,) = fleet.join(1)
        with closing(RedisStore(redis_url, namespace)) as store:
            until(
                lambda: (snapshot := store.inspect()).clock - snapshot.granted_at > 1000 * EVERY,
                what="a fetch to be due",
            )
        time_to_load = new.call(timed_load)
        posthog.wait_for_held(1, timeout=2.0)
        assert new.call(revision) == 1
        assert time_to_load < 1.5
        posthog.release()
        until(lambda: new.call(revision) == 2, 5.0, what="the push")
        assert never_lost_flags(new)


def test_a_slow_fetch_holds_nobody_up(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """A poll waits for a fetch for at most the store's timeout; a later result is pushed."""
    options = attached(posthog, redis_url, namespace, every=EVERY, polls=LONG, store_timeout=0.4)
    with Fleet(options, 3) as fleet:
        fleet.call(load)
        leading = leader(fleet)
        posthog.serve(make_definitions(5, revision=2))
        posthog.hold(times=1)
        longest = 0.0
        seen = posthog.requests
        until(lambda: (leading.call(timed_poll), posthog.requests)[1] > seen, 5.0, every=0.05, what="a fetch")
        posthog.wait_for_held(1, timeout=2.0)
        for _ in range(3):
            longest = max(longest, *(member.call(timed_poll) for member in fleet))
        assert 0.35 < longest < 1.0  # it waits: most fetches are quick
        assert set(fleet.call(revision)) == {1}
        assert posthog.requests == seen + 1
        posthog.release()
        all_hold(fleet, 2, within=2.0)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
