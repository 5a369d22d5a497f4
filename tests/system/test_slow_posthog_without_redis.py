"""Redis is down, and PostHog takes longer than the lease of the store in charge."""

from __future__ import annotations

import pytest

from flagcache.events import LateFetchRefused
from flagcache_posthog.testing import RemoteStandIn, make_definitions
from tests.support.attached_clients import adopted_at, events_of
from tests.support.client_kinds import contexts_in, plain_contexts
from tests.support.fleet_tasks import all_hold, load, status
from tests.support.real_fleet import Fleet
from tests.support.request_pace import of_fleet
from tests.support.scenario import Backends, Mode
from tests.support.servers import RedisServer, until


@pytest.mark.slow
def test_a_change_arrives_though_a_fetch_outlasts_the_lease(
    posthog: RemoteStandIn, server: RedisServer, backends: Backends
) -> None:
    """Polls each second, answers after 2.2 s, Redis dead: a change arrives as with the plain SDK, none is refused."""
    every = 1.0
    with (
        Fleet(contexts_in(Mode.ATTACHED, backends, refresh=every, polls=every, store_timeout=0.3), 3) as fleet,
        Fleet(plain_contexts(posthog, polls=every), 1) as plain,
    ):
        fleet.call(load)
        plain.call(load)
        posthog.set_delay(2.2)
        server.kill()
        until(lambda: not any(each.store_answers for each in fleet.call(status)), 6.0, every=0.1, what="all to notice")
        posthog.serve(make_definitions(5, revision=2))
        seen = len(of_fleet(posthog, fleet.members))
        all_hold(plain, 2, within=10.0)
        alone = adopted_at(plain.members[0], 2)
        until(lambda: not posthog.requests or len(of_fleet(posthog, fleet.members)) > seen, 5.0, what="a request")
        refused = len(events_of(fleet, LateFetchRefused))
        try:
            all_hold(fleet, 2, within=8.0)
        except pytest.fail.Exception:
            pytest.fail(
                f"no change after {len(of_fleet(posthog, fleet.members)) - seen} requests,"
                f" {len(events_of(fleet, LateFetchRefused))} refused as late"
            )
        last = max(adopted_at(member, 2) for member in fleet)
        assert last - alone <= 2 * (every + 2.2)
        assert not refused
        assert not events_of(fleet, LateFetchRefused)
