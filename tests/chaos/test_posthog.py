"""PostHog fails for one worker or for all, is slow, or flaps."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from flagcache_posthog.testing import MALFORMED, Drip, Drop, Fault, Hang, Refuse
from tests.chaos.fetch_steps import cut_off, reconnect
from tests.support.fleet_tasks import key_of, leader, next_request
from tests.support.scenario import BUSY, EVERY, Mode, Place, Stage
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
    mode: Mode, fault: Fault | None, place: Place, server: RedisServer, chance: random.Random
) -> None:
    """The leader's requests fail, and perhaps others' too: a worker that can fetch does, and all have the change."""
    with Stage.of(mode, place, chance) as stage:
        first = leader(stage.fleet)
        others = chance.sample([each for each in stage.fleet if each is not first], chance.randint(0, 2))
        for member in (first, *others):
            stage.tell(f"PostHog fails for {member}")
            if fault is None:
                member.call(cut_off)
            else:
                stage.posthog.fail(fault, secret_key=key_of(member.index))
                if isinstance(fault, Refuse):
                    stage.expect(f"answered {fault.status}", "fetches succeed again", "another process fetches")
        for _ in range(2):
            stage.change()
            stage.settle(unable=1 + len(others))
        for member in [first, *others]:
            member.call(reconnect)
        stage.posthog.recover()
        stage.end_well(server)


def _down(stage: Stage) -> None:
    """Every request fails in one of several ways; then PostHog is back with a change."""
    faults: list[Fault] = [Refuse(500), Refuse(503), Drop(), Refuse(429, retry_after=1)]
    stage.posthog.fail(stage.chance.choice(faults))
    for _ in range(3):
        next_request(stage.posthog, timeout=6 * EVERY + BUSY)
    stage.change()
    stage.posthog.recover()


def _flapping(stage: Stage) -> None:
    """Some requests fail in several ways, others do not, while PostHog changes."""
    faults: list[Fault] = [Refuse(500), Refuse(503), Refuse(429, retry_after=0.3), Drop(), MALFORMED, Drip(0.2)]
    for _ in range(4):
        if stage.chance.random() < 0.7:
            stage.posthog.fail(stage.chance.choice(faults), times=1)
        next_request(stage.posthog, timeout=6 * EVERY + BUSY)
        stage.change()
    stage.posthog.recover()


def _slow(stage: Stage) -> None:
    """PostHog's answers take nearly an interval, or longer than one."""
    stage.posthog.set_delay(stage.chance.choice([0.8, 1.6]) * EVERY)
    for _ in range(3):
        next_request(stage.posthog, timeout=6 * EVERY + BUSY)
        stage.change()
    stage.posthog.set_delay(0)


@MODES
@pytest.mark.parametrize("trouble", [_down, _flapping, _slow], ids=lambda trouble: trouble.__name__[1:])
@pytest.mark.sample(1, each="trouble")
def test_fails_for_all(
    mode: Mode, trouble: Callable[[Stage], None], place: Place, server: RedisServer, chance: random.Random
) -> None:
    """PostHog is down, flaps or is slow: no worker loses a flag or retries too often, and all have the change later."""
    with Stage.of(mode, place, chance) as stage:
        stage.tell(f"PostHog is {trouble.__name__[1:]}")
        trouble(stage)
        stage.end_well(server)
