"""Why the fleet's latest fetch failed, as far as one process knows: pure.

A store notes it for all. But its answers can come late (a question was under way when this process reported its own
fetch), it may be emptied, and another store, in charge while the fleet's own is away, has no note of what happened
before. Must never say that a failure is over before a fetch succeeded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Note", "latest"]


class Note(NamedTuple):
    """What a store noted. Times are seconds of this process's own clock."""

    status: int = 0
    """Why the latest fetch failed for the whole fleet (an HTTP status), until one succeeds; 0: it did not."""
    retry_at: float = 0.0
    """No process may fetch before it."""
    home: str = ""
    """The store that noted it."""
    at: float = -math.inf
    """When the store was asked, or when this process had reported its own fetch."""
    as_of: int = 0
    """`as_of` of what the store had then; 0: it had nothing."""


def latest(known: Note, said: Note, confirmed: float | None) -> Note:
    """Return the one of two notes that holds now.

    Args:
        known: what this process knew.
        said: what a store answers.
        confirmed: when the vendor confirmed what this store has, by this process's own clock; None: it has nothing.
    """
    if said.at < known.at:
        return known
    # A store that has lost its note has no later definitions: neither by its own order nor by their age.
    ordered = said.home == known.home and said.as_of > known.as_of
    over = ordered or (confirmed is not None and confirmed > known.at)
    return said if said.status or not known.status or over else known
