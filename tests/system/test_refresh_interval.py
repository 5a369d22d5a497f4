"""`refresh_interval` is how often a fleet asks PostHog, even if the SDK's own poll interval is longer."""

from __future__ import annotations

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flagcache_posthog.testing import RemoteStandIn, make_definitions
from tests.support.client_kinds import contexts_in, plain_contexts
from tests.support.fleet_tasks import all_hold, asks, load, revisions, shutdown
from tests.support.gunicorn_fleet import WebFleet
from tests.support.real_fleet import Fleet
from tests.support.request_pace import gaps, let_pass, next_ask, pace_faults, stale_events, stale_states, watch
from tests.support.scenario import Backends, Mode
from tests.support.servers import RedisServer, until


@pytest.mark.slow
def test_a_fleet_asks_each_refresh_interval(posthog: RemoteStandIn, backends: Backends) -> None:
    """Four workers whose clients poll each 6 s ask each second, never say stale, and share a change within 1.3 s."""
    refresh, seconds = 1.0, 12.0
    with Fleet(contexts_in(Mode.ATTACHED, backends, refresh=refresh, polls=6.0), 4) as fleet:
        fleet.call(load)
        let_pass(7.3)
        posthog.serve(make_definitions(5, revision=2))
        let_pass(1.3 * refresh + 0.5)
        held = revisions(fleet)
        let_pass(seconds - 7.3 - 1.3 * refresh)
        faults = pace_faults(asks(posthog), refresh, seconds)
        stale = stale_events(fleet)
    assert not faults, f"{faults}; gaps {[round(gap, 2) for gap in gaps(asks(posthog))]}"
    assert held == {2}, "a change had not reached all after 1.3 intervals"
    assert not stale


@pytest.mark.slow
def test_a_web_fleet_keeps_its_pace_through_a_deploy(
    tmp_path: Path, posthog: RemoteStandIn, backends: Backends
) -> None:
    """Four gunicorn workers (--preload), all replaced (HUP) at any moment: requests come in time, none says stale."""
    refresh, seconds = 1.5, 12.0
    with WebFleet(tmp_path, backends, "--preload", refresh=refresh, polls=15.0) as web:
        posthog.wait_for_requests(1, timeout=20)
        until(lambda: len(web.pids_with_event("DefinitionsChanged")) >= 4, 20, every=0.05, what="four loaded workers")
        let_pass(random.uniform(2, 3) * refresh)
        web.reload()
        until(lambda: time.monotonic() > asks(posthog)[0].arrived_at + seconds, seconds, every=0.1, what="the end")
        faults = pace_faults(asks(posthog), refresh, seconds)
        stale = web.pids_with_event("DefinitionsStale")
        assert not faults, f"{faults}; gaps {[round(gap, 2) for gap in gaps(asks(posthog))]}"
        assert not stale


def test_a_deploy_that_outlasts_an_interval_asks_once_a_worker_is_there(
    tmp_path: Path, posthog: RemoteStandIn, backends: Backends
) -> None:
    """No worker was left when the fetch was due: it is made as soon as the first new worker has loaded."""
    refresh = 1.0
    with WebFleet(tmp_path, backends, refresh=refresh, polls=15.0) as web:
        posthog.wait_for_requests(1, timeout=20)
        until(lambda: len(web.pids_with_event("DefinitionsChanged")) >= 4, 20, every=0.05, what="four loaded workers")
        posthog.wait_for_requests(posthog.requests + 1, timeout=20)
        last = asks(posthog)[-1].arrived_at
        let_pass(0.7 * refresh)
        before = web.workers
        web.reload()
        found = next_ask(posthog, last + 0.05, within=20).arrived_at
        up = web.loaded_at(web.workers - before)
    assert found <= max(up + 0.5, last + 1.3 * refresh), f"{found - up:.2f} s after a worker was there"


@pytest.mark.true_scale
@pytest.mark.timeout(300)
@pytest.mark.parametrize("deploy", [False, True], ids=["steady", "HUP"])
def test_at_true_scale(tmp_path: Path, posthog: RemoteStandIn, backends: Backends, deploy: bool) -> None:
    """Four workers, refreshed each 5 s at the SDK's own poll of 30 s: 11 to 14 requests in a minute, no long gap."""
    with WebFleet(tmp_path, backends, "--preload", refresh=5.0, polls=30.0) as web:
        posthog.wait_for_requests(1, timeout=20)
        let_pass(27.0)
        if deploy:
            web.reload()
        until(lambda: time.monotonic() > asks(posthog)[0].arrived_at + 60, 60, every=0.1, what="the end of the minute")
        faults = pace_faults(asks(posthog), 5.0, 60.0)
        assert not faults, f"{faults}; gaps {[round(gap, 2) for gap in gaps(asks(posthog))]}"
        assert not web.pids_with_event("DefinitionsStale")


@pytest.mark.slow
def test_an_orderly_hand_over_delays_nothing(posthog: RemoteStandIn, backends: Backends) -> None:
    """Each second a worker shuts down, in the order in which they came: no gap is longer than 1.3 intervals."""
    refresh = 1.0
    with Fleet(contexts_in(Mode.ATTACHED, backends, refresh=refresh, polls=6.0), 4) as fleet:
        fleet.call(load)
        for member in fleet.members[:3]:
            let_pass(1.7)
            member.call(shutdown)
        let_pass(2.5)
        seen = [round(gap, 2) for gap in gaps(asks(posthog))]
    assert len(seen) >= 5, f"gaps {seen}"
    assert max(seen) <= 1.3 * refresh, f"gaps {seen}"


PAIRS = [(0.4, 2.0), (0.5, 3.0), (1.0, 1.0), (1.5, 0.5)]


@pytest.mark.slow
@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_a_healthy_fleet_is_never_stale(
    mode: Mode, posthog: RemoteStandIn, server: RedisServer, namespace: str
) -> None:
    """Fleets of several pairs of intervals, side by side for eight seconds: no event and no look says stale."""
    looks: dict[tuple[float, float], int] = dict.fromkeys(PAIRS, 0)
    with contextlib.ExitStack() as stack:
        fleets = {
            (refresh, polls): stack.enter_context(
                Fleet(
                    contexts_in(
                        mode, Backends(posthog, server.url, f"{namespace}-{refresh:g}"), refresh=refresh, polls=polls
                    ),
                    2,
                )
            )
            for refresh, polls in PAIRS
        }
        for fleet in fleets.values():
            fleet.call(load)

        def look() -> None:
            for pair, fleet in fleets.items():
                looks[pair] += len(stale_states(fleet))

        watch(8.0, look, every=0.2)
        stale = {pair: len(stale_events(fleet)) for pair, fleet in fleets.items()}
    assert not any(looks.values()), f"stale looks {looks}, events {stale}"
    assert not any(stale.values()), f"events {stale}"


@pytest.mark.slow
def test_with_posthog_away_every_worker_says_stale_in_time(
    posthog: RemoteStandIn, server: RedisServer, namespace: str
) -> None:
    """Within six refresh intervals or three polls, whichever is longer: each worker of each fleet, and none before."""
    pairs = [(1.0, 2.0), (0.5, 3.0), (0.3, 0.3)]
    with contextlib.ExitStack() as stack:
        fleets: list[tuple[Fleet, float, float]] = []
        for refresh, polls in pairs:
            backends = Backends(posthog, server.url, f"{namespace}-{refresh:g}")
            made = contexts_in(Mode.ATTACHED, backends, refresh=refresh, polls=polls)
            fleets.append((stack.enter_context(Fleet(made, 3)), refresh, polls))
        for fleet, _, _ in fleets:
            fleet.call(load)
        let_pass(3.1)
        posthog.fail(503)

        def late(fleet: Fleet, refresh: float, polls: float) -> str:
            let_pass(max(6 * refresh, 3 * polls) + 0.5)
            fresh = len(list(fleet)) - len(stale_states(fleet))
            return f"{fresh} of the fleet {refresh, polls} call themselves fresh" if fresh else ""

        with ThreadPoolExecutor() as pool:
            found = [done.result() for done in [pool.submit(late, *each) for each in fleets]]
    assert not any(found), found


def test_a_fleet_of_one_keeps_the_pace_of_a_lone_sdk(posthog: RemoteStandIn, backends: Backends) -> None:
    """One worker with refresh and poll of half a second has a change as soon as a plain client that polls so often."""
    every = 0.5
    with (
        Fleet(contexts_in(Mode.ATTACHED, backends, refresh=every, polls=every), 1) as ours,
        Fleet(plain_contexts(posthog, polls=every), 1) as plain,
    ):
        ours.call(load)
        plain.call(load)
        for number in (2, 3, 4):
            posthog.serve(make_definitions(5, revision=number))
            all_hold(plain, number, within=2 * every + 2)
            all_hold(ours, number, within=1.3 * every + 0.5)
