"""Processes that live shorter than a fetch, and first loads with definitions that were not confirmed for a while."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flagcache_posthog.aws_lambda import fresh
from flagcache_posthog.testing import Hang, RemoteStandIn, make_definitions
from tests.support.attached_clients import timed_load
from tests.support.client_kinds import contexts_in
from tests.support.fleet_tasks import evaluated, load, revision, shutdown
from tests.support.real_fleet import Fleet, MemberContext
from tests.support.request_pace import let_pass
from tests.support.scenario import Backends, Mode
from tests.support.short_processes import Job, JobResult


def _in_a_row(
    posthog: RemoteStandIn, backends: Backends, mode: Mode | None, folder: Path, count: int
) -> list[tuple[int, JobResult]]:
    """Run this many jobs, two intervals apart; PostHog changes before every third. Returns the truth and the jobs."""
    refresh, found, number = 0.75, list[tuple[int, JobResult]](), 1
    for index in range(count):
        began = time.monotonic()
        if index % 3 == 1:
            number += 1
            posthog.serve(make_definitions(5, revision=number))
        found.append((number, Job(backends, mode, refresh=refresh, folder=folder).result()))
        let_pass(max(0.0, began + 2 * refresh - time.monotonic()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mode", [*Mode, None], ids=["attached", "protocol", "plain"])
def test_the_second_job_after_a_change_has_it(
    mode: Mode | None, posthog: RemoteStandIn, backends: Backends, tmp_path: Path
) -> None:
    """Jobs in a row, two intervals apart, PostHog taking 0.3 s: at most the first one after a change is late."""
    posthog.set_delay(0.3)
    found = _in_a_row(posthog, backends, mode, tmp_path, 7)
    seen = [(truth, job.revision) for truth, job in found]
    late = [index for index, (truth, job) in enumerate(found) if job.revision != f"r{truth}" and index % 3 != 1]
    assert not late, f"(truth, job): {seen}"
    assert max(job.evaluation for _, job in found) < 5.0, [round(job.evaluation, 2) for _, job in found]


@pytest.mark.true_scale
@pytest.mark.timeout(300)
def test_ten_jobs_at_ten_seconds(posthog: RemoteStandIn, backends: Backends, tmp_path: Path) -> None:
    """Ten jobs each 10 s, refreshed each 5 s, each after a change: none is two changes late."""
    posthog.set_delay(0.3)
    results: list[tuple[int, str]] = []
    for number in range(1, 11):
        posthog.serve(make_definitions(5, revision=number))
        results.append((number, Job(backends, Mode.ATTACHED, refresh=5.0, folder=tmp_path).result().revision))
        let_pass(9.0)
    late = [(truth, job) for truth, job in results if int(job.removeprefix("r")) < truth - 1]
    assert not late, results


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_a_fleet_scaled_to_zero_and_back_starts_with_what_is_true(
    mode: Mode, size: int, posthog: RemoteStandIn, backends: Backends
) -> None:
    """All leave, PostHog changes, three intervals pass: the first flags of all newcomers are the new ones."""
    refresh = 0.5
    contexts = contexts_in(mode, backends, refresh=refresh, polls=refresh)
    with Fleet(contexts, size) as friday:
        friday.call(load)
        friday.call(shutdown)
    posthog.serve(make_definitions(5, revision=2))
    let_pass(3 * refresh)
    posthog.set_delay(0.3)
    with Fleet(contexts, size) as monday:
        assert monday.call(load) == [2] * size
    assert posthog.requests <= 6


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_a_first_load_takes_what_is_stored_when_posthog_fails(
    mode: Mode, posthog: RemoteStandIn, backends: Backends
) -> None:
    """Refused at once: the stored flags are there at once. PostHog silent: after `cold_start_wait`, and no later."""
    refresh, wait = 0.5, 1.5
    contexts = contexts_in(mode, backends, refresh=refresh, polls=refresh, cold_start_wait=wait)
    with Fleet(contexts, 2) as friday:
        friday.call(load)
        friday.call(shutdown)
    let_pass(3 * refresh)
    posthog.fail(500)
    with Fleet(contexts, 1) as refused:
        assert refused.call(timed_load)[0] < 1.0
        assert refused.call(evaluated) == ["r1"]
    posthog.recover()
    posthog.fail(Hang())
    with Fleet(contexts, 1) as held_up:
        took = held_up.begin(timed_load)[0].result(within=15.0)
        assert took < wait + 1.0
        assert held_up.call(evaluated) == ["r1"]


def _invoke(context: MemberContext) -> int | None:
    """Handle an event as a serverless function does that accepts nothing old."""
    return fresh(context.client, max_age=0)(lambda: revision(context))()


def test_fresh_with_no_age_is_fresh(posthog: RemoteStandIn, backends: Backends) -> None:
    """PostHog changed two intervals ago, nothing polled since: `fresh(max_age=0)` handles the event with the change."""
    refresh = 0.5
    with Fleet(contexts_in(Mode.ATTACHED, backends, refresh=refresh, polls=600.0), 1) as fleet:
        fleet.call(load)
        for number in (2, 3):
            posthog.serve(make_definitions(5, revision=number))
            let_pass(2 * refresh)
            assert fleet.call(_invoke) == [number]
