from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest

from flagcache.stores.base import Ask, Reply
from flagcache.stores.rules import verbs as rules
from flagcache.stores.rules.state import State
from tests.simulation.mutations import MUTATIONS
from tests.simulation.run import simulate

RUNS = 120
SMALL = 30
"""Workers that a run in the test suite has at most; `make simulate` has 200."""


def test_fleets_keep_the_rules_whatever_happens() -> None:
    """Simulated fleets of the real engine keep all rules, judged by what PostHog really served and when."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        outcomes = list(pool.map(partial(simulate, largest=SMALL), range(RUNS), chunksize=4))
    failed = [str(outcome) for outcome in outcomes if outcome.faults]
    assert not failed, "\n\n".join(failed[:3])
    assert sum(outcome.grants for outcome in outcomes) > 10 * RUNS


def test_fleets_with_refreshers_keep_them_too() -> None:
    """Fleets with refreshers, which die and come back, keep the rules too."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        runs = pool.map(partial(simulate, largest=SMALL, variants=("refreshers",)), range(RUNS // 5), chunksize=4)
        outcomes = list(runs)
    failed = [str(outcome) for outcome in outcomes if outcome.faults]
    assert not failed, "\n\n".join(failed[:3])
    assert sum(kind.refresher for outcome in outcomes for kind in outcome.plan.kinds) >= RUNS // 10


def test_fleets_with_a_key_keep_them_too() -> None:
    """Fleets with signed times keep the rules too, also if SDKs fetch, which can't sign that nothing has changed."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        runs = pool.map(partial(simulate, largest=SMALL, variants=("signed",)), range(RUNS // 3), chunksize=4)
        outcomes = list(runs)
    failed = [str(outcome) for outcome in outcomes if outcome.faults]
    assert not failed, "\n\n".join(failed[:3])
    assert all(outcome.plan.signed for outcome in outcomes)
    assert {outcome.plan.mode for outcome in outcomes} == {"attached", "mixed", "protocol"}


def test_fleets_keep_the_pace_on_a_store_that_forgets() -> None:
    """Under memory pressure no worker finds what another stored; each uses its notice of the latest grant."""
    outcomes = [simulate(seed, smallest=6, largest=10, variants=("evicting",)) for seed in range(RUNS // 10)]
    assert not [str(outcome) for outcome in outcomes if outcome.faults]
    assert sum(outcome.grants for outcome in outcomes) > 10 * len(outcomes)


def test_without_word_of_each_others_grants_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without notices of grants each worker fetches for itself, and the simulation reports it."""

    def announced(_before: State, _ask: Ask, _reply: Reply) -> None:
        """Nothing is."""

    monkeypatch.setattr(rules, "announced", announced)
    assert any(simulate(seed, smallest=6, largest=10, variants=("evicting",)).faults for seed in range(RUNS // 10))


def test_a_run_is_a_function_of_its_seed() -> None:
    """The same seed gives the same steps, the same grants and the same trace."""
    first, again = simulate(7, largest=SMALL), simulate(7, largest=SMALL)
    assert first.trace
    assert first == again


def test_a_fault_says_how_to_replay_it_and_replays() -> None:
    """The command that a failed run prints runs the same again: another process, another hash seed."""
    broken = next(m for m in MUTATIONS if m.what == "a grant whenever it is asked for")
    with broken.applied():
        failed = next(outcome for seed in range(20) if (outcome := simulate(seed, largest=SMALL)).faults)
    reported = str(failed)
    command = reported.rsplit("replay: ", 1)[1].split()
    assert command[1:3] == ["-m", "tests.simulation.run"]
    sound = simulate(failed.plan.seed, largest=SMALL, trace=10_000)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1"}
    replay = [sys.executable, *command[1:], "--trace", "10000"]
    printed = subprocess.run(replay, env=env, check=True, capture_output=True, text=True, timeout=60).stdout
    assert printed.startswith(str(sound))
    assert all(fault in reported for fault in failed.faults)


@pytest.mark.parametrize("seed", range(RUNS, RUNS + 2))
def test_large_fleets_keep_the_rules(seed: int) -> None:
    """Fleets of two hundred keep them too."""
    outcome = simulate(seed, smallest=200)
    assert not outcome.faults, str(outcome)
