"""Redis crashes, hangs, loses data, goes back in time, or has a wrong clock, under a fleet that uses it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.chaos.fetch_steps import Step, catch, let_go
from tests.support.final_check import admin_of
from tests.support.fleet_tasks import status
from tests.support.scenario import BUSY, EVERY, Mode, Place, Stage
from tests.support.servers import RedisServer, until
from tests.support.stepped_redis import SteppedRedis

MODES = pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)


def _noticed(stage: Stage) -> None:
    until(
        lambda: not any(told.store_answers for told in stage.fleet.call(status)),
        4 * EVERY + BUSY,
        every=0.05,
        what="all to notice",
    )


def _killed(stage: Stage, server: RedisServer) -> None:
    """Redis is killed, noticed by all, and returns empty."""
    server.kill()
    _noticed(stage)
    stage.change()
    server.start()


def _frozen(stage: Stage, server: RedisServer) -> None:
    """Redis hangs, noticed by all, and returns with all that it had."""
    server.freeze()
    _noticed(stage)
    stage.change()
    server.thaw()


def _hiccups(stage: Stage, server: RedisServer) -> None:
    """Redis is down a few times, each time too briefly for most to notice."""
    for _ in range(stage.chance.randint(2, 4)):
        if stage.chance.random() < 0.5:
            server.kill()
            server.start()
        else:
            server.freeze()
            stage.change()
            server.thaw()
        before = stage.posthog.requests
        stage.posthog.wait_for_requests(before + 1, timeout=6 * EVERY + BUSY)


def _restored(stage: Stage, server: RedisServer) -> None:
    """Redis returns with what it had some changes ago, as after a failover to a replica that lagged."""
    admin_of(server).save()
    for _ in range(stage.chance.randint(1, 2)):
        stage.change()
        stage.settle()
    server.kill()
    if stage.chance.random() < 0.5:
        stage.change()
    server.start()


TROUBLES: list[Callable[[Stage, RedisServer], None]] = [_killed, _frozen, _hiccups, _restored]


@MODES
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__[1:])
@pytest.mark.sample(1, each="trouble")
def test_away(
    mode: Mode,
    trouble: Callable[[Stage, RedisServer], None],
    place: Place,
    server: RedisServer,
    chance: random.Random,
) -> None:
    """Redis goes down and returns empty, unchanged, or with older data: no flag is lost, and there is one fleet."""
    with Stage.of(mode, place, chance) as stage:
        with stage.store_away():
            stage.tell(f"Redis is {trouble.__name__[1:]}")
            trouble(stage, server)
        stage.join()
        stage.end_well(server)


@MODES
@pytest.mark.parametrize("step", Step, ids=lambda step: step.value)
@pytest.mark.sample(1)
def test_flushed(mode: Mode, step: Step, place: Place, server: RedisServer, chance: random.Random) -> None:
    """After FLUSHALL at each step of a fetch lease and definitions are soon there, without a burst of requests."""
    admin = admin_of(server)
    with Stage.of(mode, place, chance) as stage:
        caught = catch(stage, step)
        for _ in range(chance.randint(1, 3)):
            stage.tell("FLUSHALL")
            admin.flushall()
            if chance.random() < 0.5:
                until(lambda: admin.dbsize() >= 2, 4 * EVERY + BUSY, what="lease and definitions")
        let_go(stage, caught)
        stage.join()
        stage.end_well(server)


@MODES
@pytest.mark.sample(1)
def test_clock(mode: Mode, stepped_redis: SteppedRedis, place: Place, namespace: str, chance: random.Random) -> None:
    """Redis's clock is stepped by seconds and by hours, at any step of a fetch: changes still reach all."""
    there = Place(place.posthog, stepped_redis.server.url, namespace)
    with Stage.of(mode, there, chance) as stage:
        for offset in [*chance.sample((-86_400, -600, -20, 20, 600, 86_400), 2), 0]:
            caught = catch(stage, chance.choice(list(Step)))
            stage.tell(f"Redis's clock is {offset:+d} s off")
            stepped_redis.step(offset)
            let_go(stage, caught)
            stage.settle()
        stage.end_well(stepped_redis.server)
