from __future__ import annotations

import itertools

import pytest

from flagcache.events import FetchFailed, FetchRecovered, QuotaLimited, QuotaRestored
from flagcache.status import State
from flagcache.stores.base import Scope
from flagcache.stores.redis.store import RedisStore
from flagcache_posthog.testing import (
    QUOTA_LIMITED,
    Drop,
    Fault,
    Hang,
    Refuse,
    StandInControl,
    make_definitions,
)
from tests.support.attached_clients import (
    attached,
    events_of,
    flag_counts,
    leader_of,
    leads,
    timed_evaluation,
    timed_load,
)
from tests.support.fleet_tasks import (
    all_hold,
    asker,
    asks,
    history,
    in_order,
    key_of,
    leader,
    load,
    never_lost_flags,
    next_request,
    revision,
    status,
    trouble,
)
from tests.support.grant_log import log_grants
from tests.support.real_fleet import Fleet
from tests.support.servers import until

EVERY = 0.5
LONG = 30.0

# --- what concerns all -----------------------------------------------------------------------------------------------


def test_a_used_up_quota_empties_all_alike(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """One worker gets the 402 and all clear their flags; when the quota is restored, all have flags again."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY, polls=4 * EVERY), 4) as fleet:
        fleet.call(load)
        posthog.fail(402, secret_key=key_of(leader(fleet).index))
        until(lambda: flag_counts(fleet) == {0}, 8 * EVERY, every=0.05, what="all to be without flags")
        until(lambda: len(events_of(fleet, QuotaLimited)) == 4, what="all to say so")
        assert all(event.cleared for event in events_of(fleet, QuotaLimited))
        assert len({asker(fleet, request) for request in asks(posthog)}) == 1
        posthog.recover()
        all_hold(fleet, 1, within=8 * EVERY)
        until(lambda: len(events_of(fleet, QuotaRestored)) == 4, what="all to say so")
        assert posthog.full_fetches == 1  # the definitions and their entity tag were kept
        assert not [line for member in fleet for line in trouble(member)]


def test_flags_are_kept_while_the_quota_is_used_up_if_told_to(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """With `on_quota_limited="keep"` all keep the last flags, and see a change once the quota is back."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY, on_quota_limited="keep"), 4) as fleet:
        fleet.call(load)
        posthog.fail(402)
        until(lambda: len(events_of(fleet, QuotaLimited)) == 4, 8 * EVERY, every=0.05, what="all to know")
        assert not any(event.cleared for event in events_of(fleet, QuotaLimited))
        posthog.serve(make_definitions(5, revision=2))
        next_request(posthog)
        assert set(fleet.call(revision)) == {1}
        posthog.recover()
        all_hold(fleet, 2, within=4 * EVERY)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_a_fleet_that_starts_with_a_used_up_quota_does_not_wait(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """Workers on an empty store start without flags as soon as one gets a 402, and get flags when the quota is back.

    PostHog also says so in the body of a 200.
    """
    posthog.fail(QUOTA_LIMITED)
    make = attached(posthog, redis_url, namespace, every=EVERY, cold_start_wait=8.0)
    with log_grants(redis_url, namespace) as grants, Fleet(make, 6) as fleet:
        assert max(fleet.call(timed_load)) < 4.0
        assert flag_counts(fleet) == {0}
        assert grants.at_most(3, asks(posthog), EVERY)
        posthog.recover()
        all_hold(fleet, 1, within=8 * EVERY)
        assert sum(request.version is not None for request in asks(posthog) if request.status == 200) == 1


def test_nobody_asks_before_retry_after(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """After a 429 no worker asks before Retry-After is over; all keep their flags, and get the change then."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY, polls=0.2), 4) as fleet:
        fleet.call(load)
        posthog.fail(Refuse(429, retry_after=2), times=1)
        next_request(posthog)
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=2.0 + 4 * EVERY)
        refused, following = next(pair for pair in itertools.pairwise(asks(posthog)) if pair[0].status == 429)
        assert refused.answered_at is not None
        assert 2.0 <= following.arrived_at - refused.answered_at < 2.0 + 2 * EVERY
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
        assert [event.scope for event in events_of(fleet, FetchFailed)] == [Scope.EVERYBODY]


def test_retry_after_is_believed_for_five_minutes_at_most(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """A day's Retry-After stops the fleet for five minutes."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 1) as fleet:
        fleet.call(load)
        posthog.fail(Refuse(503, retry_after=86_400))
        store = RedisStore(redis_url, namespace)
        until(lambda: store.inspect().backoff_left, what="a note")
        snapshot = store.inspect()
        store.close()
        assert 290_000 < snapshot.backoff_left <= 300_000
        assert snapshot.backoff_status == 503


# --- what concerns one -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Refuse(401), Hang()], ids=["revoked key", "no answer"])
def test_one_whose_fetches_fail_lets_others_fetch(
    posthog: StandInControl, redis_url: str, namespace: str, fault: Fault
) -> None:
    """If a leader's key is revoked, or it can't reach PostHog, another worker leads; changes still reach all."""
    make = attached(posthog, redis_url, namespace, every=EVERY, fetch_timeout=0.6)
    with log_grants(redis_url, namespace) as grants, Fleet(make, 6) as fleet:
        fleet.call(load)
        broken = leader(fleet)
        posthog.fail(fault, secret_key=key_of(broken.index))
        for number in (2, 3):
            posthog.serve(make_definitions(5, revision=number))
            all_hold(fleet, number, within=0.6 + 5 * EVERY)
        assert not leads(broken)
        assert {each.state for each in fleet.call(status)} == {State.FRESH}
        assert grants.at_most(3, asks(posthog), EVERY)
        [failed] = events_of(fleet, FetchFailed)
        assert failed.scope is Scope.MINE
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_the_one_able_worker_soon_leads(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """With all keys but one revoked, each refused worker asks PostHog about once, and then the other one leads."""
    make = attached(posthog, redis_url, namespace, every=EVERY)
    with log_grants(redis_url, namespace) as grants, Fleet(make, 5) as fleet:
        fleet.call(load)
        able = next(member for member in fleet if not leads(member))
        for member in fleet:
            if member is not able:
                posthog.fail(401, secret_key=key_of(member.index))
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=8 * EVERY)
        assert leads(able)
        assert sum(request.status == 401 for request in asks(posthog)) <= 7
        assert grants.at_most(3, asks(posthog), EVERY)
        assert all(never_lost_flags(member) for member in fleet)


# --- when all fail ---------------------------------------------------------------------------------------------------


def test_a_fleet_in_which_all_fail_backs_off(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """When every fetch fails there are three tries at first, then fewer and fewer, and no evaluation waits for one."""
    make = attached(posthog, redis_url, namespace, every=0.3, backoff_ceiling=1.2, stale_after=1.0, store_timeout=5.0)
    with log_grants(redis_url, namespace) as grants, Fleet(make, 5) as fleet:
        fleet.call(load)
        posthog.fail(Drop())
        failing = posthog.requests
        posthog.wait_for_requests(failing + 7, timeout=15.0)
        assert grants.at_most(3, asks(posthog), 0.3)
        gaps = [(later - earlier) / 1000 for earlier, later in itertools.pairwise(grants.clocks()[failing:])]
        assert min(gaps[4:]) >= 0.9 * 0.3 * 2
        assert max(gaps) < 0.9 * 1.2 * 2  # what the next doubling would make of it
        assert {each.state for each in fleet.call(status)} == {State.STALE}
        posthog.fail(Hang())
        next_request(posthog)
        assert max(fleet.call(timed_evaluation)) < 2.0  # an evaluation that waited for the fetch would take 5
        posthog.recover()
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


@pytest.mark.parametrize("fault", [Refuse(500), Drop()], ids=["500", "drop"])
def test_a_recovery_is_noticed_within_an_interval(
    posthog: StandInControl, redis_url: str, namespace: str, fault: Fault
) -> None:
    """However long PostHog was down, a fetch succeeds within an interval after it is back, and reaches all."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 4) as fleet:
        fleet.call(load)
        posthog.fail(fault)
        failing = posthog.requests
        posthog.wait_for_requests(failing + 5, timeout=15.0)
        posthog.serve(make_definitions(5, revision=2))
        posthog.recover()
        all_hold(fleet, 2, within=EVERY + 2.0)
        [back] = posthog.truths()[-1:]
        good = next(request for request in asks(posthog) if request.status == 200 and request.sequence > failing)
        assert good.arrived_at - back.changed_at < 1.8 * EVERY  # a pause that doubled further would be two
        until(lambda: events_of(fleet, FetchRecovered), what="it to be told")
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_a_late_failure_counts_for_nothing(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """A 402 for a grant that is no longer the latest clears no flags and doesn't stop the fleet."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 4) as fleet:
        fleet.call(load)
        frozen = leader(fleet)
        next_request(posthog)
        posthog.fail(402, secret_key=key_of(frozen.index), times=1)
        posthog.hold(times=1)
        posthog.wait_for_held(1, timeout=4 * EVERY)
        assert asker(fleet, asks(posthog)[-1]) is frozen
        frozen.freeze()
        leader_of([member for member in fleet if member is not frozen])
        next_request(posthog)
        posthog.release()
        frozen.thaw()
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=4 * EVERY)
        next_request(posthog)
        assert not events_of(fleet, QuotaLimited)
        assert not events_of(fleet, FetchFailed)
        truths = posthog.truths()
        assert all(in_order(each, truths) for each in fleet.call(history))
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
