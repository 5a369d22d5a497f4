"""Why the fleet's latest fetch failed, as far as one process knows. Pure.

A store notes the failure for all workers. But its reply may be out of date (the poll was under way when this process
reported its own fetch), the store may be emptied, and the fallback store has no note of what happened before.
Invariant: a failure never counts as over before a fetch succeeded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from flagcache.settings import Settings

__all__ = ["Note", "latest", "longest_backoff"]

_LONGEST_RETRY_AFTER = 300.0
"""Seconds for which a vendor's Retry-After is believed at most."""


class Note(NamedTuple):
    """A store's note. Times are seconds of this process's own clock."""

    status: int = 0
    """The HTTP status with which the fleet's latest fetch failed, until one succeeds; 0: no failure."""
    retry_at: float = 0.0
    """No process may fetch before it."""
    store_name: str = ""
    """The store with the note."""
    at: float = -math.inf
    """When the store was polled, or when this process had reported its own fetch."""
    as_of: int = 0
    """`as_of` of the definitions in the store at that time; 0: it was empty."""


def latest(known: Note, said: Note, confirmed: float | None) -> Note:
    """Return the valid one of two notes.

    Args:
        known: what this process knew.
        said: the note in a store's reply.
        confirmed: own clock when the vendor confirmed the stored definitions; None: the store is empty.
    """
    if said.at < known.at:
        return known
    # If a store has lost its note, it has no later definitions either, by its own order or by their age.
    ordered = said.store_name == known.store_name and said.as_of > known.as_of
    over = ordered or (confirmed is not None and confirmed > known.at)
    return said if said.status or not known.status or over else known


def longest_backoff(settings: Settings) -> float:
    """Seconds that a worker's note can last at most."""
    return max(_LONGEST_RETRY_AFTER, settings.backoff_ceiling)
