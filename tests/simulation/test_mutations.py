"""The simulation finds broken rules: here those that few runs find. `docs/simulation.md` lists all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation, runs_until_found

LONGEST = 150
"""Number of runs within which each broken rule must be found."""

SLOW = {
    "the store asks no worker to repair it",
    "a failed fetch is not reported to the store",
    "follow-up grants without limit",
    "a late publication is not refused",
    "a worker adopts older definitions",
    "a challenged leader gets the next grant at once",
    "the listener renews the lease too late",
    "a forked child keeps its parent's grants",
    "an order counts as a time after the clock stepped back",
    "the entity tag of other definitions is sent",
    "a worker with a key believes no signed note",
}
"""Mutations that are found only after more runs than a test suite has time for."""

PAGE = Path(__file__).parents[2] / "docs/simulation.md"


def test_the_docs_list_every_broken_rule() -> None:
    """The table in docs/simulation.md has each mutation once, in order, with its rule; SLOW names no other."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (?:\d+|not in \d+) \| .+ \|$", PAGE.read_text(), re.MULTILINE)
    assert [(int(rule), what) for rule, what in rows] == [(each.rule, each.what) for each in MUTATIONS]
    assert {each.what for each in MUTATIONS} >= SLOW


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.rule}: {m.what}")
def test_a_broken_rule_replaces_what_exists(mutation: Mutation) -> None:
    """Each name that it patches is one of the engine's, also in those that are too slow to be tried here."""
    with mutation.applied():
        pass


@pytest.mark.slow
@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if m.what not in SLOW], ids=lambda m: f"{m.rule}: {m.what}")
def test_a_broken_rule_is_found(mutation: Mutation) -> None:
    """The simulation reports a fault if one rule of the engine is broken."""
    runs, fault = runs_until_found(mutation, LONGEST)
    assert runs, f"not found in {LONGEST} runs"
    assert fault
