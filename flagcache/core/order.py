"""What a process holds, how old it is, and what may take its place: pure.

Without a key the store's order decides, which is (epoch, `as_of`). With a key only signed times decide: definitions
with a signed time are never replaced by definitions without one, nor by definitions that were confirmed earlier.
"""

from __future__ import annotations

from typing import NamedTuple

from flagcache.stores.base import Meta
from flagcache.vendor import Definitions

__all__ = ["UNKNOWN_AGE", "Held", "granted_at", "is_newer", "is_newer_by_signature", "superseded"]

UNKNOWN_AGE = 1e9
"""Seconds. Definitions of unknown age count as this old."""


class Held(NamedTuple):
    """The definitions in this process's memory."""

    meta: Meta
    definitions: Definitions
    store_name: str
    """The store whose clock the times in `meta` are of; empty if no store gave a time."""
    born: float
    """Own clock when the fetch that brought or last confirmed them was granted: their age counts from it."""
    accepted: bool = True
    """A store accepted or sent them. Until then they count as a fetch under way, which a later grant may overtake."""
    unsettled: float | None = None
    """Own clock when a store refused them because a later grant may have found newer ones; None: no store did."""
    unproved: bool = False
    """A store returned them without a signed time, although this process has a key: their age is unknown."""


def granted_at(meta: Meta, clock: int) -> int:
    """When their fetch was granted (`as_of` may be only an order); 0, older than all, if that is ahead of the clock."""
    at = min(meta.as_of, meta.confirmed_at)
    return at if at <= clock else 0


def is_newer(held: Held, old: Held, clock: int) -> bool:
    """Whether these replace the old ones, by their store's order.

    If only the old `as_of` is ahead of the store's clock, that clock was stepped back since, and the store has lost
    those definitions. Then, and between two stores, the age on this process's own clock decides.
    """
    comparable = held.store_name == old.store_name and not (old.meta.as_of > clock and granted_at(held.meta, clock))
    return held.meta.order >= old.meta.order if comparable else held.born >= old.born


def is_newer_by_signature(held: Held, old: Held, clock: int) -> bool:
    """Whether these replace the old ones, by the signed times of both.

    `confirmed_at` is the store's clock when it was signed. `as_of` continues from the highest one in the store, which
    may be forged. So `confirmed_at` decides first. If it is ahead of the store's clock, that clock was stepped back
    since: then, and between two stores, the age on this process's own clock decides.
    """
    if held.unproved or old.unproved:
        return old.unproved and (not held.unproved or is_newer(held, old, clock))
    if held.store_name == old.store_name and old.meta.confirmed_at <= clock:
        return _signed_order(held.meta) >= _signed_order(old.meta)
    return held.born >= old.born


def superseded(held: Held) -> Held:
    """Return the definitions ordered before all others: a store refused them and holds newer ones."""
    return held._replace(meta=held.meta._replace(epoch=0, as_of=1), born=held.born - UNKNOWN_AGE)


def _signed_order(meta: Meta) -> tuple[int, int]:
    return min(meta.as_of, meta.confirmed_at), meta.as_of
