"""Fleets with only the SDK's four methods: never stale without a reason, and soon led again after a lost leader."""

from __future__ import annotations

import contextlib
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from flagcache.events import DefinitionsStale
from flagcache.status import State
from flagcache_posthog.testing import PostHogStandIn, RemoteStandIn, make_definitions
from tests.support.attached_clients import adopted_at, events_of, flag_counts
from tests.support.client_kinds import contexts_in, plain_contexts
from tests.support.fleet_tasks import all_hold, asker, asks, history, key_of, load, status
from tests.support.real_fleet import Fleet, Member
from tests.support.republishing_baseline import republishing_contexts
from tests.support.request_pace import let_pass, of_fleet, stale_events, stale_states, watch
from tests.support.scenario import Backends, Mode
from tests.support.servers import RedisServer

EVERY = 0.5


def test_a_healthy_fleet_is_never_stale_for_two_challenge_times(posthog: RemoteStandIn, backends: Backends) -> None:
    """Nothing changes for 24 intervals: no status and no event says stale."""
    every = 0.3
    looks = 0
    with Fleet(contexts_in(Mode.PROTOCOL, backends, refresh=every, polls=every), 3) as fleet:
        fleet.call(load)

        def look() -> None:
            nonlocal looks
            looks += len(stale_states(fleet))

        watch(24 * every, look)
        stale = len(stale_events(fleet))
    assert (looks, stale) == (0, 0), f"{looks} looks and {stale} events said stale"


@pytest.mark.slow
def test_with_posthog_away_every_worker_says_stale(posthog: RemoteStandIn, backends: Backends) -> None:
    """If PostHog is down, every worker says stale within the challenge time and two polls."""
    challenge = 10 * EVERY
    with Fleet(contexts_in(Mode.PROTOCOL, backends, refresh=EVERY, polls=EVERY), 3) as fleet:
        fleet.call(load)
        let_pass(1.0)
        posthog.fail(503)
        let_pass(challenge + 2 * EVERY + 0.5)
        states = [each.state for each in fleet.call(status)]
        assert states == [State.STALE] * 3
        assert events_of(fleet, DefinitionsStale)


def _lose_leader(fleet: Fleet, posthog: RemoteStandIn, revision: int) -> float:
    """Kill the process that polled last, change a flag; returns the seconds until all others have it."""
    led = asker(fleet, asks(posthog)[-1])
    led.kill()
    killed = time.monotonic()
    posthog.serve(make_definitions(5, revision=revision))
    others = list(fleet)
    all_hold(others, revision, within=60.0)
    return max(adopted_at(member, revision) for member in others) - killed


@pytest.mark.slow
def test_a_killed_leader_is_followed_as_soon_as_in_the_republishing_baseline(
    server: RedisServer, namespace: str
) -> None:
    """Default settings, the same phases, two rounds: a change reaches the others in 1.1 times the baseline's time."""
    every, size, ours, theirs = 1.5, 3, list[float](), list[float]()
    for number in range(2):
        with contextlib.ExitStack() as stack:
            hosts = [stack.enter_context(PostHogStandIn.spawn(make_definitions(5))) for _ in range(2)]
            here, there = (Backends(host, server.url, f"{namespace}-{number}-{n}") for n, host in enumerate(hosts))
            mine = stack.enter_context(Fleet(contexts_in(Mode.PROTOCOL, here, refresh=every, polls=every), size))
            other = stack.enter_context(Fleet(republishing_contexts(there, every=every), size))
            for index in range(size):  # so that no two poll at the same moment, and no lease ends at one
                for fleet in (mine, other):
                    fleet.members[index].call(load)
                let_pass(every / size)
            let_pass((1.2 + 0.5 * number) * every)
            with ThreadPoolExecutor() as pool:
                lost = [pool.submit(_lose_leader, *each, 2) for each in zip((mine, other), hosts, strict=True)]
            ours.append(lost[0].result())
            theirs.append(lost[1].result())
    details = f"ours {[round(each, 2) for each in ours]}, the baseline {[round(each, 2) for each in theirs]}"
    assert statistics.mean(ours) <= 1.1 * statistics.mean(theirs) + 0.3, details


def _longest_without_flags(member: Member) -> float:
    """Seconds of the longest stretch in which a client that had held flags held none."""
    longest, since = 0.0, None
    seen = member.call(history)
    for sighting in seen:
        if sighting.flags:
            longest = max(longest, sighting.at - since) if since is not None else longest
            since = None
        elif since is None and sighting is not seen[0]:
            since = sighting.at
    return longest if since is None else max(longest, time.monotonic() - since)


@pytest.mark.slow
def test_a_leader_whose_key_is_revoked_has_flags_again_soon(posthog: RemoteStandIn, backends: Backends) -> None:
    """Its SDK clears its flags; it has the fleet's again within three polls, and the fleet works without it."""
    with (
        Fleet(contexts_in(Mode.PROTOCOL, backends, refresh=EVERY, polls=EVERY), 3) as fleet,
        Fleet(plain_contexts(posthog, polls=EVERY), 1) as plain,
    ):
        fleet.call(load)
        plain.call(load)
        let_pass(2 * EVERY)
        revoked = asker(fleet, of_fleet(posthog, fleet.members)[-1])
        posthog.fail(401, secret_key=key_of(revoked.index))
        let_pass(1.2 * EVERY)
        posthog.serve(make_definitions(5, revision=2))
        let_pass(12 * EVERY)
        longest = _longest_without_flags(revoked)
        others = [member for member in fleet if member is not revoked]
        all_hold(others, 2, within=1.0)
        late = max(adopted_at(member, 2) for member in others) - adopted_at(plain.members[0], 2)
    assert longest <= 3 * EVERY + 0.2, f"no flags for {longest:.2f} s, {longest / EVERY:.1f} intervals"
    assert late <= 4 * EVERY, f"the others had a change {late:.2f} s after the plain SDK"


@pytest.mark.parametrize("wish", ["clear", "keep"])
def test_with_the_quota_used_up_all_workers_agree(wish: str, posthog: RemoteStandIn, backends: Backends) -> None:
    """402 for all workers: four polls later none has flags, or none lacks them for long, until it is over."""
    looks: list[set[int | None]] = []
    with Fleet(contexts_in(Mode.PROTOCOL, backends, refresh=EVERY, polls=EVERY, on_quota_limited=wish), 3) as fleet:
        fleet.call(load)
        let_pass(2 * EVERY)
        posthog.fail(402)
        let_pass(4 * EVERY)
        watch(6 * EVERY, lambda: looks.append({count or 0 for count in flag_counts(fleet)}))
        longest = max(_longest_without_flags(member) for member in fleet)
        posthog.recover()
        all_hold(fleet, 1, within=6 * EVERY + 2)
    if wish == "clear":
        wrong = [look for look in looks if look != {0}]
        assert not wrong, f"{len(wrong)} of {len(looks)} looks: {wrong[:3]}"
    else:  # the SDK of each worker that asks clears its flags, until its next poll
        assert longest <= 3 * EVERY + 0.2, f"a worker had no flags for {longest:.2f} s"
