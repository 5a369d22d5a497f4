"""Processes that are killed or frozen, at each step of a fetch."""

from __future__ import annotations

import random

import pytest

from tests.chaos.fetch_steps import Step, catch, let_go
from tests.support.fleet_tasks import next_request, revision
from tests.support.real_fleet import Member
from tests.support.scenario import BUSY, EVERY, Mode, Place, Stage
from tests.support.servers import RedisServer, until

MODES = pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
STEPS = pytest.mark.parametrize("step", Step, ids=lambda step: step.value)
WHO = pytest.mark.parametrize("who", ["leader", "followers"])


def _victims(stage: Stage, caught: Member, who: str) -> list[Member]:
    """Return the leader, or one or two of the others."""
    if who == "leader":
        return [caught]
    others = [member for member in stage.fleet if member is not caught]
    return stage.chance.sample(others, stage.chance.randint(1, 2))


@MODES
@STEPS
@WHO
@pytest.mark.sample(1, each="who")
def test_killed(mode: Mode, step: Step, who: str, place: Place, server: RedisServer, chance: random.Random) -> None:
    """If the leader or followers are killed at any step, a change reaches the rest in time, and no rule is broken."""
    with Stage.of(mode, place, chance) as stage:
        caught = catch(stage, step)
        for victim in _victims(stage, caught, who):
            stage.kill(victim)
        if chance.random() < 0.5:
            stage.change()
        let_go(stage, caught)
        stage.settle()
        stage.welcome(2)
        stage.end_well(server)


@MODES
@STEPS
@WHO
@pytest.mark.sample(1, each="who")
def test_frozen(mode: Mode, step: Step, who: str, place: Place, server: RedisServer, chance: random.Random) -> None:
    """If leader or followers freeze at any step, and thaw when others have newer definitions, no worker goes back."""
    with Stage.of(mode, place, chance) as stage:
        caught = catch(stage, step)
        victims, late = _victims(stage, caught, who), stage.revision
        for victim in victims:
            stage.freeze(victim)
        stage.change()
        if caught not in victims:
            let_go(stage, caught)
        stage.settle([member for member in stage.fleet if member not in victims])
        for victim in victims:
            if chance.random() < 0.5:
                next_request(stage.posthog, timeout=8 * EVERY)
            stage.thaw(victim)
        let_go(stage, caught)
        until(lambda: (caught.call(revision) or 0) >= late, BUSY, what="what was caught to arrive, late or overtaken")
        stage.welcome()
        stage.end_well(server)
