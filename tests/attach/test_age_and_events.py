from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from flagcache.events import (
    DefinitionsChanged,
    DefinitionsFresh,
    DefinitionsStale,
    Event,
    FetchFailed,
    FetchRecovered,
    LeadershipLost,
    LeadershipTaken,
    QuotaLimited,
    QuotaRestored,
)
from flagcache.status import Role, State, Status
from flagcache.stores.base import Scope
from flagcache_posthog import FlagDefinitionCache, from_url
from flagcache_posthog.testing import Refuse, StandInControl, make_definitions, make_flag
from tests.support.attached_clients import AttachedContext, attached, events_of, leader_of
from tests.support.fleet_tasks import all_hold, key_of, leader, load, next_request, revision, shutdown, status
from tests.support.real_fleet import Fleet, RecordingPosthog
from tests.support.servers import until

EVERY = 0.3

Keep = Callable[[AttachedContext], AttachedContext]


def kinds(context: AttachedContext, *wanted: type[Event]) -> list[str]:
    """The names of the events of these kinds, in order."""
    return [type(event).__name__ for event in list(context.events) if isinstance(event, wanted)]


# --- age -------------------------------------------------------------------------------------------------------------


def test_a_status_goes_from_empty_to_fresh_to_stale_and_back(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """Every worker shows the state of its definitions and reports each transition once; nothing confirms itself."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY, stale_after=3.0), 3) as fleet:
        assert {each.state for each in fleet.call(status)} == {State.EMPTY}
        assert {each.age for each in fleet.call(status)} == {None}
        fleet.call(load)
        assert {each.state for each in fleet.call(status)} == {State.FRESH}
        posthog.fail(500)
        ages = [_age(each.age) for each in fleet.call(status)]
        until(lambda: {each.state for each in fleet.call(status)} == {State.STALE}, 8.0, what="all to be stale")
        assert all(_age(each.age) > max(ages) for each in fleet.call(status))
        until(lambda: len(events_of(fleet, DefinitionsStale)) == 3, what="all to say so")
        posthog.recover()
        until(lambda: {each.state for each in fleet.call(status)} == {State.FRESH}, 4.0, what="all to be fresh")
        until(lambda: len(events_of(fleet, DefinitionsFresh)) == 3, what="all to say so")
        assert len(events_of(fleet, DefinitionsStale)) == 3


def test_confirmed_and_changed_are_two_ages(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """A change resets both ages and a confirmation only one, also in a worker that started later."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 2) as fleet:
        fleet.call(load)
        posthog.wait_for_requests(10, timeout=8.0)  # the first ones are now 9 * 0.9 intervals old
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=4 * EVERY)
        assert all(_age(each.changed_age) < 8 * EVERY for each in fleet.call(status))
        [changed] = posthog.truths()[-1:]
        for _ in range(3):
            next_request(posthog)
        late = fleet.join(1)[0]
        late.call(load)
        until(lambda: all(_only_confirmed(each) for each in fleet.call(status)), what="ages that differ")
        seen = [request for request in posthog.served() if request.arrived_at > changed.changed_at]
        assert {request.status for request in seen[1:]} == {304}


def _only_confirmed(member_status: Status) -> bool:
    return _age(member_status.age) < 2.5 * EVERY < _age(member_status.changed_age)


def _age(age: float | None) -> float:
    assert age is not None
    return age


# --- events ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def context(posthog: StandInControl, redis_url: str, namespace: str, here: Keep) -> AttachedContext:
    """Yield a cache that polls, and is alone in its fleet."""
    made = here(attached(posthog, redis_url, namespace, every=EVERY, stale_after=1.0)(0))
    load(made)
    until(lambda: revision(made) == 1, what="the first definitions")
    return made


def test_a_change_is_told_with_its_difference(posthog: StandInControl, context: AttachedContext) -> None:
    """`DefinitionsChanged` names the flags that were added, removed and changed, for the fetcher and a follower."""
    wanted = make_definitions(5, revision=2)
    wanted["flags"] = [*wanted["flags"][1:], make_flag("brand-new")]
    posthog.serve(wanted)

    def changes() -> list[DefinitionsChanged]:
        return [event for event in list(context.events) if isinstance(event, DefinitionsChanged)]

    first, second = until(lambda: changes()[1:] and changes(), what="the change")
    assert first.previous == ""
    assert len(first.difference.added) == 6
    assert second.previous == first.version
    assert second.difference.added == ("brand-new",)
    assert second.difference.removed == ("flag-0",)
    assert second.difference.changed == ("revision",)
    assert second.fetched
    assert context.cache.status().version == second.version


def test_a_follower_is_told_the_same_difference(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """All workers report a change in the same words, except for who fetched it; an unchanged poll reports nothing."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        posthog.set_flag("flag-1", rollout=7)
        until(lambda: len(events_of(fleet, DefinitionsChanged)) == 6, 4 * EVERY, what="the change")
        next_request(posthog)
        changes = [event for event in events_of(fleet, DefinitionsChanged) if event.previous]
        assert [event.difference.changed for event in changes] == [("flag-1",)] * 3
        assert sum(event.fetched for event in changes) == 1
        assert len({event.version for event in changes}) == 1


@pytest.mark.parametrize(
    ("status_code", "scope"), [(500, Scope.EVERYBODY), (401, Scope.MINE)], ids=["for everybody", "for this worker"]
)
def test_failures_are_told_once(
    posthog: StandInControl, context: AttachedContext, status_code: int, scope: Scope
) -> None:
    """A row of failed fetches is one `FetchFailed`, with the reason, and one `FetchRecovered` at its end."""
    posthog.fail(status_code)
    failing = posthog.requests
    posthog.wait_for_requests(failing + 3, timeout=6.0)
    posthog.recover()
    until(lambda: kinds(context, FetchRecovered), 4.0, what="the recovery")
    next_request(posthog)
    assert kinds(context, FetchFailed, FetchRecovered) == ["FetchFailed", "FetchRecovered"]
    [failed] = [event for event in context.events if isinstance(event, FetchFailed)]
    assert (failed.status, failed.scope) == (status_code, scope)
    assert str(status_code) in failed.reason


def test_quota_is_told_once(posthog: StandInControl, context: AttachedContext) -> None:
    """However often PostHog answers 402, `QuotaLimited` comes once, and `QuotaRestored` when that ends."""
    posthog.fail(402)
    failing = posthog.requests
    posthog.wait_for_requests(failing + 3, timeout=6.0)
    posthog.recover()
    until(lambda: kinds(context, QuotaRestored), 4.0, what="the quota to be back")
    assert kinds(context, QuotaLimited, QuotaRestored) == ["QuotaLimited", "QuotaRestored"]


def test_leadership_is_told(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """A worker reports when it takes the lead and when it gives it up; there is one leader at a time."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        first = leader(fleet)
        assert len(events_of(fleet, LeadershipTaken)) == 1
        first.call(shutdown)
        second = leader_of([member for member in fleet if member is not first])
        assert [len(events_of([member], LeadershipTaken)) for member in (first, second)] == [1, 1]
        assert len(events_of([first], LeadershipLost)) == 1
        assert len(events_of(fleet, LeadershipTaken)) == 2
        assert first.call(status).role is not Role.LEADER


def test_a_failing_callback_changes_nothing(
    posthog: StandInControl, redis_url: str, namespace: str, here: Keep
) -> None:
    """If `on_event` raises each time, definitions still come and change, and the log has the reason."""

    def fail(_event: Event) -> None:
        raise RuntimeError("a fault of the user's")

    cache: FlagDefinitionCache = from_url(redis_url, namespace, refresh_interval=EVERY, on_event=fail)
    client = RecordingPosthog(
        "phc_test",
        secret_key=key_of(0),
        host=posthog.url,
        poll_interval=EVERY,
        flag_definition_cache_provider=cache,
        flush_at=1,
    )
    cache.attach(client)
    context = here(AttachedContext(client, cache))
    assert load(context) == 1
    posthog.serve(make_definitions(5, revision=2))
    until(lambda: revision(context) == 2, what="the change")
    requests = [request.arrived_at for request in posthog.served()]
    assert min(later - earlier for earlier, later in pairwise(requests)) > 0.6 * EVERY
    assert posthog.full_fetches == 2


def test_a_refusal_reaches_the_log_without_a_key(
    posthog: StandInControl, redis_url: str, namespace: str, here: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    """Log lines of failures and events contain neither the project's token nor the secret key."""
    with caplog.at_level("DEBUG", logger="flagcache"):
        context = here(attached(posthog, redis_url, namespace, every=EVERY)(0))
        load(context)
        posthog.fail(Refuse(401))
        until(lambda: kinds(context, FetchFailed), what="the failure")
    written = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("flagcache"))
    assert "401" in written
    assert "phs_0" not in written + repr(context.cache)
    assert "phc_test" not in written + repr(context.cache)
