"""Processes that are killed or frozen, at each step of a fetch."""

from __future__ import annotations

import random

import pytest

from tests.chaos.fetch_steps import Step, catch, resume
from tests.support.fleet_tasks import next_request, revision
from tests.support.real_fleet import Member
from tests.support.scenario import BUSY, EVERY, Backends, Mode, Scenario
from tests.support.servers import RedisServer, until

MODES = pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
STEPS = pytest.mark.parametrize("step", Step, ids=lambda step: step.value)
WHO = pytest.mark.parametrize("who", ["leader", "followers"])


def _victims(scenario: Scenario, caught: Member, who: str) -> list[Member]:
    """Return the leader, or one or two of the others."""
    if who == "leader":
        return [caught]
    others = [member for member in scenario.fleet if member is not caught]
    return scenario.rng.sample(others, scenario.rng.randint(1, 2))


@MODES
@STEPS
@WHO
@pytest.mark.sample(1, each="who")
def test_killed(mode: Mode, step: Step, who: str, backends: Backends, server: RedisServer, rng: random.Random) -> None:
    """If the leader or followers are killed at any step, a change reaches the rest in time, and no rule is broken."""
    with Scenario.of(mode, backends, rng) as scenario:
        caught = catch(scenario, step)
        for victim in _victims(scenario, caught, who):
            scenario.kill(victim)
        if rng.random() < 0.5:
            scenario.change()
        resume(scenario, caught)
        scenario.settle()
        scenario.join_up_to_date(2)
        scenario.check_recovery(server)


@MODES
@STEPS
@WHO
@pytest.mark.sample(1, each="who")
def test_frozen(mode: Mode, step: Step, who: str, backends: Backends, server: RedisServer, rng: random.Random) -> None:
    """If leader or followers freeze at any step, and thaw when others have newer definitions, no worker goes back."""
    with Scenario.of(mode, backends, rng) as scenario:
        caught = catch(scenario, step)
        victims, late = _victims(scenario, caught, who), scenario.revision
        for victim in victims:
            scenario.freeze(victim)
        scenario.change()
        if caught not in victims:
            resume(scenario, caught)
        scenario.settle([member for member in scenario.fleet if member not in victims])
        for victim in victims:
            if rng.random() < 0.5:
                next_request(scenario.posthog, timeout=8 * EVERY)
            scenario.thaw(victim)
        resume(scenario, caught)
        until(lambda: (caught.call(revision) or 0) >= late, BUSY, what="what was caught to arrive, late or overtaken")
        scenario.join_up_to_date()
        scenario.check_recovery(server)
