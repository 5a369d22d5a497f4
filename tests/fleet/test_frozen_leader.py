from __future__ import annotations

import pytest

from flagcache.settings import Options
from flagcache_posthog import FlagDefinitionCache
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.fleet_tasks import (
    all_hold,
    asker,
    asks,
    contexts,
    hand_over,
    history,
    in_order,
    leader,
    load,
    logs,
    never_lost_flags,
    next_request,
    poll,
    revision,
    trouble,
)
from tests.support.other_thread_provider import OtherThreadProvider
from tests.support.real_fleet import Fleet, Member
from tests.support.servers import until

EVERY = 0.5
LEASE = 1.5
CHALLENGE = 6.0


def _freeze_in_fetch_of(posthog: StandInControl, fleet: Fleet, number: int) -> Member:
    """Let PostHog move to this revision, and stop the leader while it fetches it."""
    next_request(posthog)  # the next one is an interval away, so that it is the one that is held
    posthog.serve(make_definitions(5, revision=number))
    posthog.hold(times=1)
    posthog.wait_for_held(1, timeout=4 * EVERY)
    frozen = asker(fleet, asks(posthog)[-1])
    frozen.freeze()
    return frozen


def _held_by(member: Member) -> list[int | None]:
    """The revisions that a member's client held, in order, each change once."""
    held = [seen.revision for seen in member.call(history)]
    return [each for place, each in enumerate(held) if place == 0 or each != held[place - 1]]


def test_a_leader_thawed_after_others_moved_on_throws_nobody_back(
    posthog: StandInControl, store_url: str, namespace: str
) -> None:
    """A leader freezes in a fetch and thaws when others have newer definitions: no worker takes its late result."""
    with Fleet(contexts(posthog, store_url, namespace, every=EVERY, lease=LEASE), 4) as fleet:
        fleet.call(load)
        frozen = _freeze_in_fetch_of(posthog, fleet, 2)
        others = [member for member in fleet if member is not frozen]
        posthog.serve(make_definitions(5, revision=3))
        all_hold(others, 3, within=LEASE + 6 * EVERY)
        posthog.release()
        frozen.thaw()
        all_hold(fleet, 3, within=3 * EVERY)
        next_request(posthog)
        next_request(posthog)
        assert [_held_by(member) for member in fleet] == [[1, 3]] * 4
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_a_late_fetch_of_an_sdk_reaches_its_own_client_alone(
    posthog: StandInControl, store_url: str, namespace: str
) -> None:
    """If the SDK fetches, its own client adopts the late result before the cache refuses it; no other client does."""
    with Fleet(contexts(posthog, store_url, namespace, every=EVERY, lease=LEASE, wrap=OtherThreadProvider), 4) as fleet:
        fleet.call(load)
        frozen = _freeze_in_fetch_of(posthog, fleet, 2)
        others = [member for member in fleet if member is not frozen]
        posthog.serve(make_definitions(5, revision=3))
        all_hold(others, 3, within=LEASE + 6 * EVERY)
        posthog.release()
        frozen.thaw()
        until(lambda: frozen.call(revision) == 2, 2.0, what="the late fetch to reach its own client")
        all_hold(fleet, 3, within=3 * EVERY)
        next_request(posthog)
        next_request(posthog)
        assert [_held_by(member) for member in others] == [[1, 3]] * 3
        assert _held_by(frozen) == [1, 2, 3]
        late = [line for line in frozen.call(logs) if "fetch that ended late" in line.text]
        assert len(late) == 1
        posthog.serve(make_definitions(5, revision=4))
        all_hold(fleet, 4, within=4 * EVERY)
        truths = posthog.truths()
        assert all(in_order(each, truths) for each in fleet.call(history))
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


@pytest.mark.parametrize("fetches", ["fleet", "SDK"])
def test_a_late_fetch_is_refused_though_the_new_leader_heard_only_of_no_change(
    posthog: StandInControl, store_url: str, namespace: str, fetches: str
) -> None:
    """A frozen leader's v2 is not published when PostHog, back at v1, has answered the new leader with 304s.

    If the SDK fetches, its own client was sent v2, and keeps it for a challenge time: failures are as silent as 304s.
    """
    times = Options(lease=LEASE, challenge_after=CHALLENGE)
    wrap = OtherThreadProvider if fetches == "SDK" else _as_it_is
    with Fleet(contexts(posthog, store_url, namespace, every=EVERY, wrap=wrap, **times), 3) as fleet:
        fleet.call(load)
        if fetches == "SDK":
            _let_all_fetch(posthog, fleet)
        frozen = _freeze_in_fetch_of(posthog, fleet, 2)
        others = [member for member in fleet if member is not frozen]
        posthog.serve(make_definitions(5, revision=1))
        seen = len(asks(posthog))
        posthog.reset_counts()
        posthog.wait_for_requests(2, timeout=LEASE + 6 * EVERY)
        assert {request.status for request in asks(posthog)[seen:]} == {304}
        assert asker(fleet, asks(posthog)[-1]) in others

        posthog.release()
        frozen.thaw()
        if fetches == "SDK":
            until(lambda: frozen.call(revision) == 2, 2.0, what="the late fetch to reach its own client")
        all_hold(fleet, 1, within=CHALLENGE + 6 * EVERY)
        next_request(posthog)
        next_request(posthog)
        assert [_held_by(member) for member in others] == [[1]] * 2
        assert _held_by(frozen) == ([1, 2, 1] if fetches == "SDK" else [1])
        new = fleet.join(1)[0]
        assert new.call(load) == 1
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def _as_it_is(cache: FlagDefinitionCache) -> object:
    return cache


def _let_all_fetch(posthog: StandInControl, fleet: Fleet) -> None:
    """Change the leader until each client has fetched the current revision, and so knows its entity tag."""

    def askers() -> set[Member]:
        return {asker(fleet, each) for each in asks(posthog)}

    for member in fleet:
        leader(fleet).call(hand_over)
        member.call(poll)
        until(lambda: member in askers(), 4 * EVERY, what=f"{member} to fetch")  # noqa: B023 - called here and now
