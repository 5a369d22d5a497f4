"""Processes that fork while their Redis is being killed, frozen and started again."""

from __future__ import annotations

import random

import pytest

from tests.support.fleet_tasks import evaluated, revision
from tests.support.real_fleet import MemberContext
from tests.support.scenario import EVERY, Backends, Mode, Scenario
from tests.support.servers import RedisServer

MODES = pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)


@MODES
@pytest.mark.sample(2)
def test_forks_under_fire(mode: Mode, backends: Backends, server: RedisServer, rng: random.Random) -> None:
    """Children forked at any moment of an outage hold flags at once, evaluate, and later follow each change."""
    with Scenario.forked(mode, backends, rng) as scenario:
        with scenario.store_unreachable():
            for _ in range(3):
                kill = rng.random() < 0.5
                scenario.log("Redis is killed" if kill else "Redis is frozen")
                (server.kill if kill else server.freeze)()
                for _ in range(rng.randint(1, 3)):
                    scenario.let_pass(rng.uniform(0, 0.6 * EVERY))
                    _works(scenario)
                scenario.change()
                (server.start if kill else server.thaw)()
                _works(scenario)
        scenario.check_recovery()


def _works(scenario: Scenario) -> None:
    """Fork one more, which has what its parent had, and uses it."""
    scenario.log("fork")
    [child] = scenario.fleet.join(1)
    assert child.begin(_has).result(within=5.0)


def _has(context: MemberContext) -> bool:
    return evaluated(context) is not None and revision(context) is not None
