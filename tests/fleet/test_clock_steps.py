from __future__ import annotations

from pathlib import Path

import pytest

from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.fleet_tasks import (
    all_hold,
    asks,
    busiest,
    contexts,
    history,
    in_order,
    load,
    never_lost_flags,
    next_request,
    trouble,
)
from tests.support.real_fleet import Fleet
from tests.support.servers import MakeRedis
from tests.support.stepped_redis import SteppedRedis, step_redis

EVERY = 0.5


@pytest.fixture
def stepped(make_redis: MakeRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SteppedRedis:
    """A server whose clock can be stepped."""
    return step_redis(make_redis, tmp_path, monkeypatch)


@pytest.mark.parametrize("flushed", [False, True], ids=["kept", "flushed"])
def test_a_stepped_clock_of_the_store_stops_nothing(
    posthog: StandInControl, stepped: SteppedRedis, namespace: str, flushed: bool
) -> None:
    """Redis's clock is stepped back and forth by a minute, with and without its content: changes reach all in time."""
    server = stepped.server
    with Fleet(contexts(posthog, server.url, namespace, every=EVERY), 4) as fleet:
        fleet.call(load)
        for number, seconds in enumerate((-60, 60, 0), start=2):
            stepped.step(seconds)
            if flushed:
                server.client().flushall()
            next_request(posthog)
            posthog.serve(make_definitions(5, revision=number))
            all_hold(fleet, number, within=4 * EVERY)
        assert busiest(asks(posthog), EVERY) <= 3
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
        truths = posthog.truths()
        assert all(in_order(each, truths) for each in fleet.call(history))
