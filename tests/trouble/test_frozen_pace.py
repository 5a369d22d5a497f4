"""With a frozen Redis and no fallback store each process fetches for itself, at the documented pace."""

from __future__ import annotations

import pytest

from flagcache_posthog.testing import RemoteStandIn, make_definitions
from tests.support.client_kinds import contexts_in
from tests.support.fleet_tasks import all_hold, asks, load, status
from tests.support.real_fleet import Fleet
from tests.support.request_pace import gaps, let_pass, of_fleet
from tests.support.scenario import Backends, Mode
from tests.support.servers import MakeRedis, until

SECONDS = 13.0
"""How long requests are counted."""

SLOWEST = 3.0
"""Refresh intervals between two requests of a process that has no store: docs/outages.md says two to three."""

POLL = 1.0
"""Seconds by which a request may be later than it was due: polls make them."""


@pytest.mark.parametrize("store_timeout", [1.0, 2.0], ids=["as long as a poll interval", "longer than a poll interval"])
def test_each_process_fetches_at_its_own_pace_while_redis_hangs(
    posthog: RemoteStandIn, make_redis: MakeRedis, namespace: str, store_timeout: float
) -> None:
    """A stopped Redis answers nothing for many intervals: each of two processes still asks PostHog."""
    server = make_redis(tcp=True)
    backends = Backends(posthog, server.tcp_url, namespace)
    make = contexts_in(Mode.ATTACHED, backends, refresh=1.0, polls=POLL, fallback=None, store_timeout=store_timeout)
    with Fleet(make, 2) as fleet:
        fleet.call(load)
        server.freeze()
        until(lambda: not any(each.store_answers for each in fleet.call(status)), 10.0, every=0.1, what="all to notice")
        before = len(asks(posthog))
        let_pass(SECONDS)
        meanwhile = asks(posthog)[before:]
        for member in fleet:
            seen = [served for served in of_fleet(posthog, [member]) if served in meanwhile]
            assert len(seen) >= SECONDS / (SLOWEST + POLL) - 1, f"{member!r} asked {len(seen)} times"
            assert max(gaps(seen)) <= SLOWEST + POLL + 0.9, f"{member!r} paused {max(gaps(seen)):.1f} s"
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=2 * SLOWEST)
