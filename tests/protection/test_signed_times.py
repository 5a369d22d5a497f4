"""Real workers with a key, on a real Redis that an attacker without a key writes to."""

from __future__ import annotations

import pytest

from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.attached_clients import attached
from tests.support.attacked_fleet import KINDS, KINDS_WITH_A_KEY, KeylessWriter
from tests.support.fleet_tasks import all_hold, history, in_order, load, never_lost_flags, poll, trouble
from tests.support.keyless_writes import roll_back
from tests.support.real_fleet import Fleet
from tests.support.servers import MakeRedis, until

EVERY = 0.5


@pytest.mark.parametrize("kind", KINDS_WITH_A_KEY)
def test_no_flag_goes_back_however_often_it_is_written(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, kind: str
) -> None:
    """Once, and then before each poll for ten intervals: flags stay, requests are bounded, a change arrives."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY, **KINDS[kind]), 3) as fleet:
        fleet.call(load)
        writer = KeylessWriter(server, namespace, kind)
        writer.before = writer.fields()
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=6 * EVERY)
        roll_back(writer)
        posthog.wait_for_requests(posthog.requests + 3, timeout=20)  # it fetches by itself

        began, before = writer.now(), posthog.requests
        while writer.now() - began < 10 * EVERY * 1000:
            roll_back(writer)
            fleet.call(poll)
        intervals = (writer.now() - began) / 1000 / EVERY
        assert posthog.requests - before <= 3 * (intervals + 1)

        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=16 * EVERY)
        truths = posthog.truths()
        for member in fleet:
            assert never_lost_flags(member)
            assert not trouble(member)
            assert in_order(member.call(history), truths)
        until(lambda: writer.read("stamp"), 8 * EVERY, what="the store to be mended")
