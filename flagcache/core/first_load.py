"""When a process waits at its first load, for what, and when that wait is useless: pure.

A process without definitions waits for the first ones. One that finds stored ones starts with them if they are young;
if not, it waits for a fetch under way, its own or another worker's, and takes the stored ones as soon as that fails.
There is one wait a process, at most `cold_start_wait` long.
Invariant: a process that holds definitions waits only while some worker is fetching.
"""

from __future__ import annotations

from flagcache.core.knowledge import Knowledge
from flagcache.settings import Settings, milliseconds
from flagcache.stores.base import Reply

__all__ = ["defer_grant", "is_first_load", "is_starting", "may_start_with", "waits_for_newer", "waits_in_vain"]

_PASSING = 500
"""HTTP statuses from here on are failures that pass; those below are decisions."""

_OTHERS_LOOK = 0.1
"""Seconds within which a worker that waits beside this one looks again, early in its wait."""


def is_first_load(know: Knowledge) -> bool:
    """Whether this process has handed out nothing yet. A child of a process that held definitions has no first load."""
    return not know.loaded and know.waiting_since is not None


def is_starting(know: Knowledge) -> bool:
    """Whether this process has definitions to hand out for the first time, or is about to ask for them."""
    return is_first_load(know) or (know.held is None and not know.loaded)


def may_start_with(know: Knowledge, max_age: float, now: float) -> bool:
    """Whether what is held was confirmed at most so many seconds ago."""
    return know.held is not None and now - know.held.born <= max_age


def defer_grant(reply: Reply, settings: Settings) -> tuple[Reply, bool]:
    """Leave a grant that comes with young definitions for a later poll; and whether one was left.

    The SDK of an unknown client would use it for a request that may fail, with no flags to start with. As
    no fetch follows, this process knows of no new grant; its next poll is given this one again.
    """
    if reply.grant is None or reply.meta is None:
        return reply, False
    if not 0 <= reply.clock - reply.meta.confirmed_at <= milliseconds(settings.first_load_max_age):
        return reply, False
    return reply._replace(grant=None, granted_at=0), True


def waits_for_newer(know: Knowledge, home: str, *, fetching: bool) -> bool:
    """Whether there is a fetch to wait for, by a process that holds old definitions.

    Args:
        know: what this process knows.
        home: the store in charge.
        fetching: whether this process itself is fetching.
    """
    if know.held is None or know.failures or know.note.status:
        return False
    return fetching or know.contact(home).fetching


def waits_in_vain(know: Knowledge, home: str, now: float, ends_at: float) -> bool:
    """Whether a process that holds nothing can expect nothing.

    The vendor refuses definitions to all; or no try is left in this interval; or this process was refused and no worker
    leads: none of those that wait beside it took the lease, though each had the time to look once more.
    """
    contact = know.contact(home)
    if contact.exhausted or (know.note.status and (know.note.status < _PASSING or know.note.retry_at > ends_at)):
        return True
    refused = bool(know.failures) and now < know.stay_out_until
    led = contact.lease_ends > contact.heard
    return refused and not led and now - know.failed_at >= _OTHERS_LOOK
