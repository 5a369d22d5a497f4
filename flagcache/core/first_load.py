"""When a process waits at its first load, for what, and when waiting is useless. Pure.

A process without definitions waits for the first ones. If it finds stored definitions that are young, it starts with
them. If they are old, it waits for a fetch under way, its own or another worker's; if that fetch fails, it uses them.
There is one wait per process, at most `cold_start_wait` long.
Invariant: a process that holds definitions waits only while some worker is fetching, or, with a key, for a signature.
"""

from __future__ import annotations

from flagcache.core.knowledge import Knowledge
from flagcache.settings import Settings, milliseconds
from flagcache.stores.base import Reply

__all__ = [
    "defer_grant",
    "is_first_load",
    "is_starting",
    "may_start_with",
    "nothing_to_wait_for",
    "waits_for_newer",
    "waits_for_proof",
]

_PASSING = 500
"""HTTP statuses from here on are temporary failures; those below are refusals."""

_OTHERS_LOOK = 0.1
"""Seconds within which another waiting worker polls again, early in its wait."""


def is_first_load(know: Knowledge) -> bool:
    """Whether this process has returned no definitions yet. A child whose parent held definitions has no first load."""
    return not know.loaded and know.waiting_since is not None


def is_starting(know: Knowledge) -> bool:
    """Whether this process is about to return definitions for the first time, or to ask for the first ones."""
    return not know.loaded and (know.waiting_since is not None or know.held is None)


def may_start_with(know: Knowledge, max_age: float, now: float) -> bool:
    """Whether the held definitions were confirmed at most `max_age` seconds ago."""
    return know.held is not None and now - know.held.born <= max_age


def defer_grant(reply: Reply, settings: Settings) -> tuple[Reply, bool]:
    """Defer a grant that comes with young definitions to a later poll. Also return whether one was deferred.

    The SDK of an unknown client would use the grant for a request that may fail, and have no flags to start with. No
    fetch follows, so this process records no new grant, and its next poll gets the same one again.
    """
    if reply.grant is None or reply.meta is None:
        return reply, False
    if not 0 <= reply.clock - reply.meta.confirmed_at <= milliseconds(settings.first_load_max_age):
        return reply, False
    return reply._replace(grant=None, granted_at=0), True


def waits_for_newer(know: Knowledge, store_name: str, *, fetching: bool) -> bool:
    """Whether a process that holds old definitions has a fetch to wait for.

    Args:
        know: what this process knows.
        store_name: the store in charge.
        fetching: whether this process itself is fetching.
    """
    if know.held is None or know.failures or know.backoff.status:
        return False
    return fetching or know.view(store_name).fetching


def waits_for_proof(know: Knowledge, store_name: str, stale_after: float, now: float) -> bool:
    """Whether a process with a key must wait for a fetch: what it holds has no signed time within `stale_after`.

    Anyone who can write to the store could have put it there. Its own fetch, or another worker's, shows what is right.
    If fetches fail, there is none to wait for.
    """
    if not know.signs or know.held is None or not is_first_load(know) or now - know.held.born <= stale_after:
        return False
    view = know.view(store_name)
    return not (know.failures or know.backoff.status or view.exhausted or view.leads)


def nothing_to_wait_for(know: Knowledge, store_name: str, now: float, ends_at: float) -> bool:
    """Whether a process without definitions has nothing to wait for.

    Either the vendor refuses definitions to all workers, or no attempt is left in this interval, or this process was
    refused and no worker leads: no waiting worker took the lease, although each had the time to poll once more.
    """
    view = know.view(store_name)
    if view.exhausted or (know.backoff.status and (know.backoff.status < _PASSING or know.backoff.retry_at > ends_at)):
        return True
    refused = bool(know.failures) and now < know.stay_out_until
    led = view.lease_ends > view.replied_at
    return refused and not led and now - know.failed_at >= _OTHERS_LOOK
