"""The simulation finds rules that are broken: those that it finds soon. `docs/simulation.md` has all, with the runs."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation, runs_until_found

LONGEST = 150
"""Runs within which each must be found."""

SLOW = {
    "nobody is asked to repair the store",
    "a failed fetch is told to nobody",
    "follow-up grants without limit",
    "a late writer is not refused",
    "a worker takes whatever comes",
    "a silent leader leaves the others no time",
    "the listener oversleeps the lease",
    "a forked child goes on with its parent's grants",
    "an order is taken for a time when the clock was put back",
    "the entity tag of one content is sent for another",
}
"""Found only after more runs than a test suite has time for."""


@pytest.mark.slow
@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if m.what not in SLOW], ids=lambda m: f"{m.rule}: {m.what}")
def test_a_broken_rule_is_found(mutation: Mutation) -> None:
    """An engine with one rule broken does not get through the simulation."""
    runs, fault = runs_until_found(mutation, LONGEST)
    assert runs, f"not found in {LONGEST} runs"
    assert fault
