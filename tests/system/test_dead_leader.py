"""A leader crashes, freezes or starves: when the fleet makes its next request, and which worker makes it."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from flagcache.events import LeadershipTaken
from flagcache_posthog.testing import PostHogStandIn, RemoteStandIn, make_definitions
from tests.support.attached_clients import events_of
from tests.support.client_kinds import contexts_in
from tests.support.fleet_tasks import all_hold, asker, asks, leader, load, next_request
from tests.support.real_fleet import Fleet
from tests.support.request_pace import gaps, let_pass, next_ask
from tests.support.scenario import Backends, Mode
from tests.support.servers import RedisServer

GRACE = 3.0
"""Seconds: 2 that another worker leaves the leader for a fetch that is due, and one for a busy machine."""


@contextmanager
def busy_processes(count: int) -> Generator[None]:
    """Run this many processes that only compute, while the block lasts."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(busy.kill)
        yield


@contextmanager
def _fleets(
    server: RedisServer, namespace: str, count: int, *, refresh: float, polls: float
) -> Generator[list[tuple[Fleet, RemoteStandIn]]]:
    """Start this many loaded fleets of three, each with its own PostHog that takes 0.1 s."""
    with contextlib.ExitStack() as stack:
        made: list[tuple[Fleet, RemoteStandIn]] = []
        for number in range(count):
            posthog = stack.enter_context(PostHogStandIn.spawn(make_definitions(5), delay=0.1))
            backends = Backends(posthog, server.url, f"{namespace}-{number}")
            fleet = stack.enter_context(Fleet(contexts_in(Mode.ATTACHED, backends, refresh=refresh, polls=polls), 3))
            made.append((fleet, posthog))
        for fleet, _ in made:
            fleet.call(load)
        yield made


def _kill_leader(fleet: Fleet, posthog: RemoteStandIn, refresh: float, moment: float) -> float:
    """Kill the leader at a moment of its interval; returns how much later than a living one's the next request came."""
    next_request(posthog, timeout=15)
    let_pass(moment)
    last = asks(posthog)[-1].arrived_at
    leader(fleet).kill()
    due = max(last + refresh, time.monotonic())
    return next_ask(posthog, max(last, due - refresh), within=30).arrived_at - due


@pytest.mark.slow
def test_a_killed_leader_delays_the_next_request_by_the_grace(server: RedisServer, namespace: str) -> None:
    """Three fleets, each leader killed (-9) at another moment of its interval: 3 s later than a living one, at most."""
    refresh, polls = 1.5, 5.0
    moments = [random.random() * 0.8 * refresh for _ in range(3)]
    with _fleets(server, namespace, 3, refresh=refresh, polls=polls) as fleets, ThreadPoolExecutor() as pool:
        let_pass(polls + 0.5)  # each has polled: the deputy knows that it is one
        begun = [pool.submit(_kill_leader, *each, refresh, at) for each, at in zip(fleets, moments, strict=True)]
        late = [done.result() for done in begun]
    details = [(round(moment, 2), round(each, 2)) for moment, each in zip(moments, late, strict=True)]
    assert max(late) <= GRACE, f"(moment of the interval, seconds late): {details}"


@pytest.mark.slow
def test_a_leader_killed_in_mid_fetch_delays_the_next_one_by_the_grace(
    posthog: RemoteStandIn, backends: Backends
) -> None:
    """Its open grant counts as begun: the next request comes an interval after it, and 3 s at most; none in between."""
    refresh, polls = 1.5, 5.0
    with Fleet(contexts_in(Mode.ATTACHED, backends, refresh=refresh, polls=polls), 3) as fleet:
        fleet.call(load)
        let_pass(polls + 0.5)
        posthog.hold(times=1)
        posthog.wait_for_held(1, timeout=15)
        caught = asks(posthog)[-1]
        asker(fleet, caught).kill()
        posthog.release()
        took = next_ask(posthog, caught.arrived_at, within=30).arrived_at - caught.arrived_at
    assert 0.8 * refresh <= took <= refresh + GRACE


@pytest.mark.slow
def test_without_leader_and_deputy_anybody_s_next_poll_asks(server: RedisServer, namespace: str) -> None:
    """All but one worker are killed at once: whichever that one is, it asks at its next poll or after the grace."""
    refresh, polls = 1.0, 6.0
    with _fleets(server, namespace, 2, refresh=refresh, polls=polls) as fleets:
        loaded = time.monotonic()
        let_pass(polls + 0.6)
        killed = time.monotonic()
        for survivor, (fleet, _) in enumerate(fleets, 1):
            led = leader(fleet)
            others = [member for member in fleet if member is not led]
            for member in (led, others[survivor % 2]):
                member.kill()
        bound = max(killed + refresh + GRACE, loaded + 2 * polls + 1.5)
        late = [next_ask(posthog, killed + 0.2, within=30).arrived_at - bound for _, posthog in fleets]
    assert max(late) <= 0, f"so many seconds late: {[round(each, 2) for each in late]}"


@pytest.mark.slow
def test_a_leader_frozen_for_a_while_costs_one_change_of_leader(posthog: RemoteStandIn, backends: Backends) -> None:
    """Stopped (SIGSTOP) for five seconds: one other worker leads, no request too many, and no gap beyond the grace."""
    refresh, polls = 1.0, 6.0
    with Fleet(contexts_in(Mode.ATTACHED, backends, refresh=refresh, polls=polls), 4) as fleet:
        fleet.call(load)
        let_pass(polls + 0.5)
        changes = len(events_of(fleet, LeadershipTaken))
        stopped = leader(fleet)
        first = asks(posthog)[-1].sequence
        stopped.freeze()
        let_pass(5.0)
        posthog.serve(make_definitions(5, revision=2))
        stopped.thaw()
        let_pass(3.0)
        asked = [served for served in asks(posthog) if served.sequence >= first]
        taken = len(events_of(fleet, LeadershipTaken)) - changes
        all_hold(fleet, 2, within=2.0)
    details = f"gaps {[round(gap, 2) for gap in gaps(asked)]}, {taken} changes of leader"
    assert taken <= 1, details
    assert min(gaps(asked), default=0) >= 0.8 * refresh, details
    assert max(gaps(asked), default=99) <= refresh + GRACE, details


def _starve(posthog: RemoteStandIn, backends: Backends, *, refresh: float, polls: float, seconds: float) -> None:
    """Let a fleet of four be starved, and see that it continues as one."""
    with Fleet(contexts_in(Mode.ATTACHED, backends, refresh=refresh, polls=polls), 4) as fleet:
        fleet.call(load)
        let_pass(polls)
        changes = len(events_of(fleet, LeadershipTaken))
        asked = len(asks(posthog))
        with busy_processes(8):
            let_pass(seconds)
        taken = len(events_of(fleet, LeadershipTaken)) - changes
        asked = len(asks(posthog)) - asked
    assert taken <= 1, f"{taken} changes of leader, {asked} requests"
    assert 0.5 * seconds / refresh <= asked <= seconds / refresh + 1, f"{asked} requests"


@pytest.mark.slow
def test_a_starved_fleet_goes_on_as_one(posthog: RemoteStandIn, backends: Backends) -> None:
    """Eight busy processes for five seconds: at most one change of leader, and no request too many."""
    _starve(posthog, backends, refresh=1.0, polls=4.0, seconds=5.0)


@pytest.mark.true_scale
@pytest.mark.timeout(600)
def test_a_fleet_starved_for_minutes_goes_on_as_one(posthog: RemoteStandIn, backends: Backends) -> None:
    """Eight busy processes for five minutes, refreshed each 5 s at the SDK's own poll: the same."""
    _starve(posthog, backends, refresh=5.0, polls=30.0, seconds=300.0)


@pytest.mark.true_scale
@pytest.mark.timeout(300)
def test_a_killed_leader_at_true_scale(server: RedisServer, namespace: str) -> None:
    """At the SDK's defaults, polls and refreshes of 30 s: the next request comes at most 3 s later than it would."""
    moments = [random.random() * 25 for _ in range(2)]
    with _fleets(server, namespace, 2, refresh=30.0, polls=30.0) as fleets, ThreadPoolExecutor() as pool:
        let_pass(31.0)

        def kill(fleet: Fleet, posthog: RemoteStandIn, moment: float) -> float:
            let_pass(moment)
            last = asks(posthog)[-1].arrived_at
            leader(fleet).kill()
            due = max(last + 30.0, time.monotonic())
            return next_ask(posthog, last, within=120).arrived_at - due

        begun = [pool.submit(kill, *each, at) for each, at in zip(fleets, moments, strict=True)]
        late = [done.result() for done in begun]
    assert max(late) <= GRACE, f"seconds late: {[round(each, 2) for each in late]}"
