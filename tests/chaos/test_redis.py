"""Redis crashes, hangs, loses data, goes back in time, or has a wrong clock, under a fleet that uses it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.chaos.fetch_steps import Step, catch, resume
from tests.support.final_check import admin_of
from tests.support.fleet_tasks import status
from tests.support.scenario import BUSY, EVERY, Backends, Mode, Scenario
from tests.support.servers import RedisServer, until
from tests.support.stepped_redis import SteppedRedis

MODES = pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)


def _noticed(scenario: Scenario) -> None:
    until(
        lambda: not any(each.store_answers for each in scenario.fleet.call(status)),
        4 * EVERY + BUSY,
        every=0.05,
        what="all to notice",
    )


def _killed(scenario: Scenario, server: RedisServer) -> None:
    """Redis is killed, noticed by all, and returns empty."""
    server.kill()
    _noticed(scenario)
    scenario.change()
    server.start()


def _frozen(scenario: Scenario, server: RedisServer) -> None:
    """Redis hangs, noticed by all, and returns with all that it had."""
    server.freeze()
    _noticed(scenario)
    scenario.change()
    server.thaw()


def _hiccups(scenario: Scenario, server: RedisServer) -> None:
    """Redis is down a few times, each time too briefly for most to notice."""
    for _ in range(scenario.rng.randint(2, 4)):
        if scenario.rng.random() < 0.5:
            server.kill()
            server.start()
        else:
            server.freeze()
            scenario.change()
            server.thaw()
        before = scenario.posthog.requests
        scenario.posthog.wait_for_requests(before + 1, timeout=6 * EVERY + BUSY)


def _restored(scenario: Scenario, server: RedisServer) -> None:
    """Redis returns with what it had some changes ago, as after a failover to a replica that lagged."""
    admin_of(server).save()
    for _ in range(scenario.rng.randint(1, 2)):
        scenario.change()
        scenario.settle()
    server.kill()
    if scenario.rng.random() < 0.5:
        scenario.change()
    server.start()


TROUBLES: list[Callable[[Scenario, RedisServer], None]] = [_killed, _frozen, _hiccups, _restored]


@MODES
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__[1:])
@pytest.mark.sample(1, each="trouble")
def test_away(
    mode: Mode,
    trouble: Callable[[Scenario, RedisServer], None],
    backends: Backends,
    server: RedisServer,
    rng: random.Random,
) -> None:
    """Redis goes down and returns empty, unchanged, or with older data: no flag is lost, and there is one fleet."""
    with Scenario.of(mode, backends, rng) as scenario:
        with scenario.store_unreachable():
            scenario.log(f"Redis is {trouble.__name__[1:]}")
            trouble(scenario, server)
        scenario.join()
        scenario.check_recovery(server)


@MODES
@pytest.mark.parametrize("step", Step, ids=lambda step: step.value)
@pytest.mark.sample(1)
def test_flushed(mode: Mode, step: Step, backends: Backends, server: RedisServer, rng: random.Random) -> None:
    """After FLUSHALL at each step of a fetch lease and definitions are soon there, without a burst of requests."""
    admin = admin_of(server)
    with Scenario.of(mode, backends, rng) as scenario:
        caught = catch(scenario, step)
        for _ in range(rng.randint(1, 3)):
            scenario.log("FLUSHALL")
            admin.flushall()
            if rng.random() < 0.5:
                until(lambda: admin.dbsize() >= 2, 4 * EVERY + BUSY, what="lease and definitions")
        resume(scenario, caught)
        scenario.join()
        scenario.check_recovery(server)


@MODES
@pytest.mark.sample(1)
def test_clock(mode: Mode, stepped_redis: SteppedRedis, backends: Backends, namespace: str, rng: random.Random) -> None:
    """Redis's clock is stepped by seconds and by hours, at any step of a fetch: changes still reach all."""
    there = Backends(backends.posthog, stepped_redis.server.url, namespace)
    with Scenario.of(mode, there, rng) as scenario:
        for offset in [*rng.sample((-86_400, -600, -20, 20, 600, 86_400), 2), 0]:
            caught = catch(scenario, rng.choice(list(Step)))
            scenario.log(f"Redis's clock is {offset:+d} s off")
            stepped_redis.step(offset)
            resume(scenario, caught)
            scenario.settle()
        scenario.check_recovery(stepped_redis.server)
