"""The fallback file is never stuck: what PostHog confirmed later replaces what it confirmed earlier."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from flagcache.settings import Options
from flagcache.status import State
from flagcache.stores.redis.store import RedisStore
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.fleet.test_fallback import files, kept
from tests.support.attached_clients import AttachedContext, attached
from tests.support.fleet_tasks import all_hold, load, status
from tests.support.real_fleet import Fleet
from tests.support.servers import MakeRedis, until

EVERY = 0.6
TIMEOUT = 0.3
HOUR = 3_600_000
OLD, NEW = secrets.token_hex(16), secrets.token_hex(16)


def keeps(fleet: Fleet, state: Path) -> None:
    """Wait until the file has what the latest member holds."""
    version = fleet.members[-1].call(status).version
    until(lambda: version in kept(state), 10.0, what="the change to be kept")


def test_a_cleared_and_then_emptied_redis_does_not_freeze_it(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, state: Path
) -> None:
    """The file has a higher epoch than Redis, which has lost its own: new definitions still replace it."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY, store_timeout=TIMEOUT), 1) as fleet:
        fleet.call(load)
        RedisStore(server.url, namespace).clear()
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=8 * EVERY)
        keeps(fleet, state)
        fleet.members[0].kill()
        server.client().flushall()
        posthog.serve(make_definitions(5, revision=3))
        assert fleet.join(1)[0].call(load) == 3
        posthog.serve(make_definitions(5, revision=4))
        all_hold(fleet, 4, within=8 * EVERY)
        keeps(fleet, state)
        fleet.members[-1].kill()
        posthog.fail(503)
        server.kill()
        assert fleet.join(1)[0].call(load) == 4


@pytest.mark.parametrize("outage", [False, True], ids=["kept", "used"])
def test_times_of_the_future_do_not_freeze_it(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, state: Path, *, outage: bool
) -> None:
    """The machine's clock was an hour ahead: what was written then is replaced, and is never called fresh."""
    server = make_redis()
    make = attached(posthog, server.url, namespace, every=EVERY, store_timeout=TIMEOUT, cold_start_wait=1.0)
    with Fleet(make, 1) as fleet:
        fleet.call(load)
        keeps(fleet, state)
        fleet.members[0].kill()
        with closing(sqlite3.connect(files(state)[0])) as connection, connection:
            connection.execute(
                "UPDATE state SET as_of = as_of + ?, confirmed_at = confirmed_at + ?, highest = highest + ?", [HOUR] * 3
            )
        if outage:
            posthog.fail(503)
            server.kill()
            came = fleet.join(1)[0]
            assert came.call(load) == 1
            seen = came.call(status)
            assert seen.state is State.STALE
            assert (seen.age or 0) > HOUR / 1000
            posthog.recover()
        else:
            fleet.join(1)[0].call(load)
        for revision in (2, 3):
            posthog.serve(make_definitions(5, revision=revision))
            all_hold(fleet, revision, within=20 * EVERY)
            keeps(fleet, state)
        seen = fleet.members[-1].call(status)
        assert (seen.age or 0) < 60
        fleet.members[-1].kill()
        posthog.fail(503)
        server.kill()
        assert fleet.join(1)[0].call(load) == 3


@pytest.mark.parametrize(("kind", "edited"), [("signing_key", False), ("encryption_key", True)])
def test_a_rotated_key_alone_can_read_it(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, kind: str, *, edited: bool
) -> None:
    """After a rotation as in docs/security.md, with or without edits between the steps, the new key opens the file."""
    server, revision = make_redis(), 1
    steps: list[str | list[str]] = [OLD, [OLD, NEW], [NEW, OLD], NEW, NEW]

    def make(index: int) -> AttachedContext:
        options = cast("Options", {kind: steps[index], "store_timeout": TIMEOUT})
        return attached(posthog, server.url, namespace, every=EVERY, **options)(index)

    with Fleet(make, 1) as fleet:
        assert fleet.call(load) == [1]
        for _ in steps[1:-1]:
            came = fleet.join(1)[0]
            assert came.call(load) == revision
            if edited:
                revision += 1
                posthog.serve(make_definitions(5, revision=revision))
                all_hold(fleet, revision, within=8 * EVERY)
            fleet.members[-2].kill()
            posthog.wait_for_requests(posthog.requests + 7, timeout=20)  # more than `stale_after`
        fleet.members[-1].kill()
        posthog.fail(503)
        server.kill()
        assert fleet.join(1)[0].call(load) == revision
