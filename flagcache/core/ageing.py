"""What time does to definitions: when they are stale, and when an unsettled order is settled. Pure."""

from __future__ import annotations

import math

from flagcache.core.knowledge import Knowledge
from flagcache.core.order import superseded
from flagcache.stores.base import Meta

__all__ = ["is_stale", "outranking", "settled"]


def settled(know: Knowledge, longest: float, now: float) -> Knowledge:
    """Give up definitions whose order stayed unknown for `longest` seconds: from then on the store's count.

    Until then a process that fetched them keeps them, because the store's are older. With a key it keeps them until it
    finds any that were confirmed later by signature.
    """
    held = know.held
    if held is None or know.signs or held.unsettled is None or now - held.unsettled <= longest:
        return know
    return know._replace(held=superseded(held)._replace(unsettled=None))


def outranking(meta: Meta, stored: Meta) -> Meta:
    """Return the metadata with an order after that of the stored definitions, if their order says nothing about time.

    Their epoch may be one that the fleet's store has lost since, and their `as_of` may be ahead of the clock.
    """
    if meta.order > stored.order:
        return meta
    return meta._replace(epoch=stored.epoch, as_of=max(meta.as_of, stored.as_of + 1))


def is_stale(know: Knowledge, stale_after: float, polls_every: float, now: float) -> bool:
    """Whether the vendor has not confirmed the held definitions for `stale_after`, as far as this process can know.

    A follower learns of a confirmation by another worker with its next poll. So the age counts at the time of the
    latest reply of a store, unless a reply is overdue by half a poll interval.
    """
    held = know.held
    if held is None or now - held.born <= stale_after:
        return False
    replied_at = max((view.replied_at for view in know.views.values()), default=-math.inf)
    return replied_at - held.born > stale_after or now - replied_at > 1.5 * polls_every
