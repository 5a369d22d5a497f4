"""Which scenarios run, and with which seed.

By default each test plays a few of its cases (`sample`), always the same ones. `CHAOS_ROUNDS=3` plays them all, three
times, each time with other choices; all choices come from `CHAOS_SEED`. A failed test prints how to play it again.
"""

from __future__ import annotations

import os
import random
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.scenario_fixtures import backends, server
from tests.support.servers import MakeRedis
from tests.support.stepped_redis import SteppedRedis, step_redis

__all__ = ["backends", "server"]

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "0"))
SEED = os.environ.get("CHAOS_SEED", "1")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all but a sample of each test's cases, unless rounds are requested."""
    if ROUNDS:
        return
    decks: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("sample"):
            decks[_deck(item)].append(item)
    left_out: set[str] = set()
    for name, deck in decks.items():
        mark = deck[0].get_closest_marker("sample")
        wanted = min(len(deck), mark.args[0] if mark else 0)
        kept = random.Random(f"{SEED}/{name}").sample(deck, wanted)
        left_out.update(item.nodeid for item in deck if item not in kept)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]


def _deck(item: pytest.Item) -> str:
    """Return the cases of its test, or of these only the ones with the same value of `each`."""
    test, mark = item.nodeid.partition("[")[0], item.get_closest_marker("sample")
    each = mark.kwargs.get("each") if mark else None
    call = getattr(item, "callspec", None)
    if each is None or call is None:
        return test
    value = call.params[each]
    return f"{test}/{getattr(value, '__name__', value)}"  # the repr of a function differs from process to process


@pytest.fixture(params=range(max(1, ROUNDS)), ids="round{}".format)
def rng(request: pytest.FixtureRequest) -> random.Random:
    """The source of a scenario's choices."""
    node: str = request.node.nodeid
    sys.stdout.write(f"to play this again: CHAOS_ROUNDS={max(1, ROUNDS)} CHAOS_SEED={SEED} pytest '{node}'\n")
    return random.Random(f"{SEED}/{node}")


@pytest.fixture
def stepped_redis(make_redis: MakeRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SteppedRedis:
    """A Redis whose clock can be stepped."""
    return step_redis(make_redis, tmp_path, monkeypatch)
