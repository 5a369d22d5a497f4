"""PostHog fails for one worker or for all, is slow, or flaps."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from flagcache_posthog.testing import MALFORMED, Drip, Drop, Fault, Hang, Refuse
from tests.chaos.fetch_steps import cut_off, reconnect
from tests.support.fleet_tasks import key_of, leader, next_request
from tests.support.scenario import BUSY, EVERY, Backends, Mode, Scenario
from tests.support.servers import RedisServer

MODES = pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)

FOR_ONE: list[tuple[Mode, Fault | None]] = [
    (Mode.ATTACHED, None),
    (Mode.ATTACHED, Refuse(401)),
    (Mode.ATTACHED, Refuse(403)),
    (Mode.ATTACHED, Hang()),
    (Mode.PROTOCOL, None),
    (Mode.PROTOCOL, Drop()),
    (Mode.PROTOCOL, Refuse(403)),
]
"""The failures of one process; None: its requests never leave it. Without `attach` the SDK clears its own flags at a
401, and waits 10 seconds for an answer."""


@pytest.mark.parametrize(("mode", "fault"), FOR_ONE, ids=lambda value: getattr(value, "value", None) or repr(value))
@pytest.mark.sample(1, each="mode")
def test_fails_for_one(
    mode: Mode, fault: Fault | None, backends: Backends, server: RedisServer, rng: random.Random
) -> None:
    """The leader's requests fail, and perhaps others' too: a worker that can fetch does, and all have the change."""
    with Scenario.of(mode, backends, rng) as scenario:
        first = leader(scenario.fleet)
        others = rng.sample([each for each in scenario.fleet if each is not first], rng.randint(0, 2))
        for member in (first, *others):
            scenario.log(f"PostHog fails for {member}")
            if fault is None:
                member.call(cut_off)
            else:
                scenario.posthog.fail(fault, secret_key=key_of(member.index))
                if isinstance(fault, Refuse):
                    scenario.expect(f"answered {fault.status}", "fetches succeed again", "another process fetches")
        for _ in range(2):
            scenario.change()
            scenario.settle(unable=1 + len(others))
        for member in [first, *others]:
            member.call(reconnect)
        scenario.posthog.recover()
        scenario.check_recovery(server)


def _down(scenario: Scenario) -> None:
    """Every request fails in one of several ways; then PostHog is back with a change."""
    faults: list[Fault] = [Refuse(500), Refuse(503), Drop(), Refuse(429, retry_after=1)]
    scenario.posthog.fail(scenario.rng.choice(faults))
    for _ in range(3):
        next_request(scenario.posthog, timeout=6 * EVERY + BUSY)
    scenario.change()
    scenario.posthog.recover()


def _flapping(scenario: Scenario) -> None:
    """Some requests fail in several ways, others do not, while PostHog changes."""
    faults: list[Fault] = [Refuse(500), Refuse(503), Refuse(429, retry_after=0.3), Drop(), MALFORMED, Drip(0.2)]
    for _ in range(4):
        if scenario.rng.random() < 0.7:
            scenario.posthog.fail(scenario.rng.choice(faults), times=1)
        next_request(scenario.posthog, timeout=6 * EVERY + BUSY)
        scenario.change()
    scenario.posthog.recover()


def _slow(scenario: Scenario) -> None:
    """PostHog's answers take nearly an interval, or longer than one."""
    scenario.posthog.set_delay(scenario.rng.choice([0.8, 1.6]) * EVERY)
    for _ in range(3):
        next_request(scenario.posthog, timeout=6 * EVERY + BUSY)
        scenario.change()
    scenario.posthog.set_delay(0)


@MODES
@pytest.mark.parametrize("trouble", [_down, _flapping, _slow], ids=lambda trouble: trouble.__name__[1:])
@pytest.mark.sample(1, each="trouble")
def test_fails_for_all(
    mode: Mode, trouble: Callable[[Scenario], None], backends: Backends, server: RedisServer, rng: random.Random
) -> None:
    """PostHog is down, flaps or is slow: no worker loses a flag or retries too often, and all have the change later."""
    with Scenario.of(mode, backends, rng) as scenario:
        scenario.log(f"PostHog is {trouble.__name__[1:]}")
        trouble(scenario)
        scenario.check_recovery(server)
