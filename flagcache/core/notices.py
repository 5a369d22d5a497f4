"""Which of several notices counts, and what a process does about one. Pure.

A notice is a hint: it makes a process poll, and the reply to that poll decides.
"""

from __future__ import annotations

from enum import Enum, auto

from flagcache.core.order import Held
from flagcache.stores.base import Notice

__all__ = ["SPREAD", "Reaction", "merged", "reaction_to"]

SPREAD = 0.05
"""Seconds over which workers spread their polls after one notice, so that they don't reach the store all at once."""


class Reaction(Enum):
    """What to do about a notice."""

    CHECK = auto()
    """Only check that the clients have what is held: the notice announces that."""
    PUSH = auto()
    """Poll on behalf of the clients."""
    CONTEND = auto()
    """The same, and contend for the lease or a grant."""


def merged(notice: Notice, later: Notice) -> Notice:
    """Return the one of two notices that counts: the later one, unless only the other says that the lease is free."""
    return notice if notice.kind == "free" and later.kind != "free" else later


def reaction_to(notice: Notice, held: Held | None, *, leads: bool) -> Reaction:
    """Return what to do about a notice.

    Args:
        notice: not one of a grant.
        held: what this process holds.
        leads: this process leads. After `clear` the leader fetches at once, because new workers wait for definitions.
    """
    if notice.kind == "new" and held is not None and notice.version == held.meta.version:
        return Reaction.CHECK
    contends = notice.kind == "free" or (notice.kind == "clear" and leads)
    return Reaction.CONTEND if contends else Reaction.PUSH
