"""The simulation finds each rule that is broken.

Runs that each took when this was written, in the order of `MUTATIONS`:
TABLE
"""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation, runs_until_found

LONGEST = 150
"""Runs within which each must be found."""


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.rule}: {m.what}")
def test_a_broken_rule_is_found(mutation: Mutation) -> None:
    """An engine with one rule broken does not get through the simulation."""
    runs, fault = runs_until_found(mutation, LONGEST)
    assert runs, f"not found in {LONGEST} runs"
    assert fault
