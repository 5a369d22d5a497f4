from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest

from tests.simulation.run import simulate

RUNS = 200
SMALL = 30
"""Workers that a run in the test suite has at most; `make simulate` has 200."""


def test_fleets_keep_the_rules_whatever_happens() -> None:
    """Simulated fleets of the real engine keep all rules, judged by what PostHog really served and when."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        outcomes = list(pool.map(partial(simulate, largest=SMALL), range(RUNS), chunksize=4))
    failed = [str(outcome) for outcome in outcomes if outcome.faults]
    assert not failed, "\n\n".join(failed[:3])
    assert sum(outcome.grants for outcome in outcomes) > 10 * RUNS


def test_a_run_is_a_function_of_its_seed() -> None:
    """A seed replays: the same steps, the same grants, the same trace."""
    first, again = simulate(7, largest=SMALL), simulate(7, largest=SMALL)
    assert first.trace
    assert first == again


@pytest.mark.parametrize("seed", range(RUNS, RUNS + 3))
def test_large_fleets_keep_the_rules(seed: int) -> None:
    """Fleets of two hundred keep them too."""
    outcome = simulate(seed, smallest=200)
    assert not outcome.faults, str(outcome)
