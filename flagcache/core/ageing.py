"""What becomes of definitions with time: when they are stale, and when an open question about them ends. Pure."""

from __future__ import annotations

import math

from flagcache.core.knowledge import Knowledge, overtaken
from flagcache.stores.base import Meta

__all__ = ["is_stale", "outranking", "settled"]


def settled(know: Knowledge, longest: float, now: float) -> Knowledge:
    """Let go of definitions whose place in the order stayed unknown for so many seconds; what the store has counts.

    Until then a process that was given them by the vendor keeps them, because what the store has is older.
    """
    held = know.held
    if held is None or held.unsettled is None or now - held.unsettled <= longest:
        return know
    return know._replace(held=overtaken(held)._replace(unsettled=None))


def outranking(meta: Meta, stored: Meta) -> Meta:
    """The same at a place after what is stored, which is of another time than its place in the order says.

    Its epoch may be one that the fleet's store has lost since, and its `as_of` may be ahead of the clock.
    """
    if meta.order > stored.order:
        return meta
    return meta._replace(epoch=stored.epoch, as_of=max(meta.as_of, stored.as_of + 1))


def is_stale(know: Knowledge, stale_after: float, polls_every: float, now: float) -> bool:
    """Whether the vendor has not confirmed what is held for longer than `stale_after`, as far as this process can know.

    Of a confirmation by another worker a follower learns by its next poll. So its age counts as of the latest answer of
    a store, unless an answer has been missing for half a poll interval.
    """
    held = know.held
    if held is None or now - held.born <= stale_after:
        return False
    heard = max((contact.heard for contact in know.contacts.values()), default=-math.inf)
    return heard - held.born > stale_after or now - heard > 1.5 * polls_every
