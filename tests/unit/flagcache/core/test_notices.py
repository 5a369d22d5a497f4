"""Which of two notices counts, and what a process does about it."""

from __future__ import annotations

import pytest

from flagcache.core.notices import Reaction, merged, reaction_to
from flagcache.core.order import Held
from flagcache.stores.base import Meta, Notice

NEW, FREE = Notice("new", 0, "v2"), Notice("free", 0, "v1")
HELD = Held(Meta("v1", 0, 1, 1, 1), {}, "redis", 100.0)


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        (NEW, NEW._replace(version="v3"), NEW._replace(version="v3")),
        (NEW, FREE, FREE),
        (FREE, NEW, FREE),
        (FREE, FREE._replace(version="v2"), FREE._replace(version="v2")),
    ],
)
def test_the_later_notice_counts_unless_only_the_earlier_one_frees_the_lease(
    first: Notice, second: Notice, counts: Notice
) -> None:
    """A process that missed a free lease would not contend for it."""
    assert merged(first, second) == counts


def test_a_notice_of_what_is_held_needs_only_a_check() -> None:
    """A notice of another version, or of any to a process that holds nothing, makes it poll."""
    announced = NEW._replace(version="v1")
    assert reaction_to(announced, HELD, leads=False) is Reaction.CHECK
    assert reaction_to(NEW, HELD, leads=False) is Reaction.PUSH
    assert reaction_to(announced, None, leads=False) is Reaction.PUSH
    assert reaction_to(announced._replace(kind="note"), HELD, leads=False) is Reaction.PUSH


@pytest.mark.parametrize("leads", [True, False])
def test_all_contend_for_a_free_lease(leads: bool) -> None:
    """Also if the notice names the version that is held."""
    assert reaction_to(FREE, HELD, leads=leads) is Reaction.CONTEND


def test_only_the_leader_contends_after_a_clear() -> None:
    """It fetches at once, because new processes wait for definitions. The others only poll."""
    cleared = Notice("clear", 1, "")
    assert reaction_to(cleared, HELD, leads=True) is Reaction.CONTEND
    assert reaction_to(cleared, HELD, leads=False) is Reaction.PUSH


@pytest.mark.parametrize("kind", ["new", "note", "of a later release"])
def test_no_other_notice_makes_a_leader_contend(kind: str) -> None:
    """Its own schedule says when the next fetch is due."""
    assert reaction_to(NEW._replace(kind=kind), HELD, leads=True) is Reaction.PUSH
