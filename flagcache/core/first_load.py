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
    "contends",
    "defer_grant",
    "ends_at",
    "is_first_load",
    "is_starting",
    "may_start_with",
    "nothing_to_wait_for",
    "pause",
    "waits_for_newer",
    "waits_for_proof",
]

_PASSING = 500
"""HTTP statuses from here on are temporary failures; those below are refusals."""

_OTHERS_LOOK = 0.1
"""Seconds within which another waiting worker polls again, early in its wait."""

_SHORTEST, _LONGEST = 0.01, 0.5
"""Seconds between two polls of the store: short at first, because a fetch takes a fraction of a second; then longer, so
that a thousand waiting processes don't keep a store busy."""

_GROWTH = 1.25
"""Each pause is about a fifth of the wait so far: that much later than its leader a follower may start."""

_GROWS = 20
"""How often a pause grows: more than enough to become the longest."""


def is_first_load(know: Knowledge) -> bool:
    """Whether this process has returned no definitions yet. A child whose parent held definitions has no first load."""
    return not know.loaded and know.waiting_since is not None


def is_starting(know: Knowledge) -> bool:
    """Whether this process is about to return definitions for the first time, or to ask for the first ones."""
    return not know.loaded and (know.waiting_since is not None or know.held is None)


def may_start_with(know: Knowledge, max_age: float, now: float, *, asked_at: float) -> bool:
    """Whether the held definitions are young enough for a load.

    Args:
        know: what this process knows.
        max_age: seconds since their last confirmation, up to which they are.
        now: own clock.
        asked_at: own clock when the load began. What was granted later is young enough, whatever `max_age`.
    """
    held = know.held
    return held is not None and (held.born >= asked_at or now - held.born <= max_age)


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


def ends_at(know: Knowledge, settings: Settings, began: float) -> float:
    """When a wait ends. A process has one wait until its first load is over: it began with a store's first reply.

    Args:
        know: what this process knows.
        settings: of the cache.
        began: own clock when the calling load began to wait.
    """
    first = know.held is None or not know.loaded
    return (began if know.waiting_since is None or not first else know.waiting_since) + settings.cold_start_wait


def contends(know: Knowledge, *, can_fetch: bool) -> bool:
    """Whether the polls of a wait contend for the lease: not if the SDK fetches and this process can start.

    The waiting thread could not use a grant then. A process without definitions stops waiting and fetches.
    """
    return can_fetch or know.held is None


def pause(polls: int, jitter: float) -> float:
    """Seconds from one poll of a wait to the next.

    Args:
        polls: number of polls in this wait so far.
        jitter: from 0 to 1.
    """
    return float(min(_LONGEST, _SHORTEST * _GROWTH ** min(polls - 1, _GROWS))) + _SHORTEST * jitter


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
