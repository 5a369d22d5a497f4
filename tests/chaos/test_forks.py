"""Processes that fork while their Redis is being killed, frozen and started again."""

from __future__ import annotations

import random

import pytest

from tests.support.fleet_tasks import evaluated, revision
from tests.support.real_fleet import MemberContext
from tests.support.scenario import EVERY, Mode, Place, Stage
from tests.support.servers import RedisServer

MODES = pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)


@MODES
@pytest.mark.sample(2)
def test_forks_under_fire(mode: Mode, place: Place, server: RedisServer, chance: random.Random) -> None:
    """Children forked at any moment of an outage hold flags at once, evaluate, and later follow each change."""
    with Stage.forked(mode, place, chance) as stage:
        with stage.store_away():
            for _ in range(3):
                kill = chance.random() < 0.5
                stage.tell("Redis is killed" if kill else "Redis is frozen")
                (server.kill if kill else server.freeze)()
                for _ in range(chance.randint(1, 3)):
                    stage.let_pass(chance.uniform(0, 0.6 * EVERY))
                    _works(stage)
                stage.change()
                (server.start if kill else server.thaw)()
                _works(stage)
        stage.end_well()


def _works(stage: Stage) -> None:
    """Fork one more, which has what its parent had, and uses it."""
    stage.tell("fork")
    [child] = stage.fleet.join(1)
    assert child.begin(_has).result(within=5.0)


def _has(context: MemberContext) -> bool:
    return evaluated(context) is not None and revision(context) is not None
