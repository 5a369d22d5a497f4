"""What a process does about a poll and its reply: pure."""

from __future__ import annotations

from enum import Enum, auto

from flagcache.core.knowledge import Knowledge, StoreView
from flagcache.stores.base import Ask, Reply

__all__ = ["Action", "must_release", "next_action", "serves_first", "yield_turn"]


class Action(Enum):
    """What to do about a reply."""

    ADOPT = auto()
    """Hold the definitions that it brought."""
    REPAIR = auto()
    """Publish what is held, because the store lacks it."""
    RENEW_PROTECTION = auto()
    """As the leader, publish what is held again if it is protected with a key that is being replaced."""
    NONE = auto()


def next_action(reply: Reply, *, brought: bool, reads_only: bool) -> Action:
    """Return what to do about a verified reply.

    Args:
        reply: of the store.
        brought: it has definitions that this process can read.
        reads_only: this process never writes.
    """
    if brought:
        return Action.ADOPT
    if reads_only:
        return Action.NONE
    if reply.republish:
        return Action.REPAIR
    return Action.RENEW_PROTECTION if reply.leads else Action.NONE


def must_release(reply: Reply, *, ours: bool, must_not_lead: bool) -> bool:
    """Whether to release the lease that the poll has just taken: it is taken before the reply can be read.

    Args:
        reply: of the store.
        ours: this process can use what the store has.
        must_not_lead: as in `flagcache.core.compatibility`.
    """
    return reply.leads and (not ours or must_not_lead)


def yield_turn(ask: Ask, view: StoreView, *, unshareable: bool) -> Ask:
    """Return the poll of a process that holds what cannot be shared: processes without it come first."""
    return ask._replace(challenge=2 * ask.challenge) if unshareable and not view.leads else ask


def serves_first(know: Knowledge, *, can_fetch: bool) -> bool:
    """Whether young definitions go before a grant: the client is unknown, and has none to evaluate with."""
    return know.held is None and not can_fetch
