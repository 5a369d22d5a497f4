from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flagcache_posthog.testing import StandInControl, make_definitions
from tests.fleet.chores import (
    all_hold,
    asks,
    busiest,
    history,
    in_order,
    load,
    never_lost_flags,
    next_request,
    seats,
    trouble,
)
from tests.fleet.harness import Fleet
from tests.servers import MakeRedis, RedisServer, until

EVERY = 0.5
LIBFAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


@pytest.fixture
def stepped(
    make_redis: MakeRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[RedisServer, Callable[[int], None]]:
    """A server, and a function that sets its clock so many seconds off the machine's."""
    if LIBFAKETIME is None:
        pytest.skip("no libfaketime on this machine (Debian's package faketime)")
    offset = tmp_path / "offset"
    offset.write_text("+0")
    faked = {
        "LD_PRELOAD": str(LIBFAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }
    with monkeypatch.context() as patch:
        for name, value in faked.items():
            patch.setenv(name, value)
        server = make_redis("redis-6.2")  # with the newer ones' allocators the library does not get on everywhere
    admin = server.client()

    def step(seconds: int) -> None:
        before = int(admin.time()[0])
        offset.write_text(f"{seconds:+d}")
        until(lambda: abs(int(admin.time()[0]) - before) > 30, what="the step")

    return server, step


@pytest.mark.parametrize("flushed", [False, True], ids=["kept", "flushed"])
def test_a_stepped_clock_of_the_store_stops_nothing(
    posthog: StandInControl, stepped: tuple[RedisServer, Callable[[int], None]], namespace: str, flushed: bool
) -> None:
    """Redis's clock stepped back and forth by a minute, with what it holds and without: changes reach all in time."""
    server, step = stepped
    with Fleet(seats(posthog, server.url, namespace, every=EVERY), 4) as fleet:
        fleet.call(load)
        for number, seconds in enumerate((-60, 60, 0), start=2):
            step(seconds)
            if flushed:
                server.client().flushall()
            next_request(posthog)
            posthog.serve(make_definitions(5, revision=number))
            all_hold(fleet, number, within=4 * EVERY)
        assert busiest(asks(posthog), EVERY) <= 3
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
        truths = posthog.truths()
        assert all(in_order(each, truths) for each in fleet.call(history))
