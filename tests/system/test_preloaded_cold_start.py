"""A client that was created before a fork, and a PostHog slower than the lease on an empty store."""

from __future__ import annotations

import pytest

from flagcache.events import LeadershipTaken
from flagcache_posthog.testing import RemoteStandIn
from tests.support.attached_clients import events_of, timed_load
from tests.support.client_kinds import contexts_in
from tests.support.fleet_tasks import revision
from tests.support.real_fleet import Fleet
from tests.support.request_pace import let_pass
from tests.support.scenario import Backends, Mode


@pytest.mark.slow
def test_preloaded_workers_ask_a_slow_posthog_once(posthog: RemoteStandIn, backends: Backends) -> None:
    """Three forks of one client at the default settings, answers after 6 s: one request, one leader, flags for all."""
    posthog.set_delay(6.0)
    context = contexts_in(Mode.ATTACHED, backends, refresh=30.0, polls=30.0)(0)
    try:
        with Fleet(lambda _index: context, 3) as fleet:
            took = [call.result(within=25.0) for call in fleet.begin(timed_load)]
            let_pass(1.5)  # the listener of a forked worker begins a second after it
            leaders = len(events_of(fleet, LeadershipTaken))
            details = f"{posthog.requests} requests, {leaders} leaders, loads {[round(each, 1) for each in took]} s"
            assert posthog.requests == 1, details
            assert leaders == 1, details
            assert fleet.call(revision) == [1] * 3, details
    finally:
        context.client.shutdown()


@pytest.mark.slow
def test_preloaded_workers_evaluate_first(posthog: RemoteStandIn, backends: Backends) -> None:
    """The same, but forked workers whose listeners run already when the first requests come: one request as well."""
    posthog.set_delay(6.0)
    context = contexts_in(Mode.ATTACHED, backends, refresh=30.0, polls=1.0)(0)
    try:
        with Fleet(lambda _index: context, 3) as fleet:
            let_pass(2.5)  # pollers of the SDK, which run in each fork, have asked by now
            took = [call.result(within=25.0) for call in fleet.begin(timed_load)]
            leaders = len(events_of(fleet, LeadershipTaken))
            details = f"{posthog.requests} requests, {leaders} leaders, loads {[round(each, 1) for each in took]} s"
            assert posthog.requests == 1, details
            assert leaders == 1, details
    finally:
        context.client.shutdown()
