"""What no reader would take is not published: each process has to fetch it for itself, and gets its turn."""

from __future__ import annotations

import heapq
import random

import pytest

from flagcache.settings import Settings
from tests.support.in_process_fleet import Fleet, Process, content

EVERY = 30.0
LARGE = content(2, more="x" * 8000)


def until_all_have_it(seed: int, workers: int) -> float:
    """After how many intervals the last of this many workers has definitions that are too large; each polls on its own.

    They start within a second, and a fetch takes part of one: a worker that polls meanwhile gets no grant.
    """
    dice = random.Random(seed)
    fleet = Fleet(Settings(refresh_interval=EVERY, cold_start_wait=0.05, max_decoded_bytes=4096))
    processes = [fleet.process() for _ in range(workers)]
    lacking = set(range(workers))
    begin = fleet.clock()
    todo = [(begin + dice.random(), index, False) for index in range(workers)]
    heapq.heapify(todo)
    changed = begin + 2.2 * EVERY
    while lacking:
        fleet.clock.now, index, fetching = heapq.heappop(todo)
        if fleet.clock() > changed:
            fleet.upstream.serves = LARGE
        if not fetching and processes[index].worker.should_fetch():
            heapq.heappush(todo, (fleet.clock() + 0.2 + 0.4 * dice.random(), index, True))
            continue
        _go_on(processes[index], fetching=fetching)
        heapq.heappush(todo, (fleet.clock() + EVERY + 0.02 * dice.random(), index, False))
        lacking -= {index} if processes[index].flags == LARGE else set()
        assert fleet.clock() - begin < 1000 * EVERY, f"these never had it: {lacking}"
    return (fleet.clock() - changed) / EVERY


def _go_on(process: Process, *, fetching: bool) -> None:
    if fetching:
        process.fetch()
    else:
        process.flags = process.worker.definitions() or process.flags


@pytest.mark.parametrize("workers", [3, 6])
@pytest.mark.parametrize("seed", range(12))
def test_each_gets_its_turn(seed: int, workers: int) -> None:
    """Workers that have it leave the turn to those that don't: one more has it each time a leader was silent."""
    challenge = Settings(refresh_interval=EVERY).challenge_after / EVERY
    assert until_all_have_it(seed, workers) < (workers - 1) * (challenge + 2)
