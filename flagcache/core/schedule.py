"""What the background of a process does next, and when. Pure.

The leader renews its lease on its own clock while a client's poller runs, and fetches when the fleet's fetch is due,
whatever the SDK's poll interval. A follower contends for the lease when it expires, if its own next poll would be
later. One follower, the deputy, checks whether each due fetch was granted. A follower with a key takes a turn from a
leader without one. Times are seconds of the process's own clock.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from flagcache.core.knowledge import Knowledge, StoreView
from flagcache.core.notes import longest_backoff
from flagcache.settings import Settings
from flagcache.stores.base import Scope
from flagcache.vendor import Refused

__all__ = [
    "GRACE",
    "HEARTBEAT",
    "OFFSET",
    "RENEWALS",
    "ClientActivity",
    "Schedule",
    "backoff",
    "next_duty",
    "pause_after",
]

RENEWALS = 3
"""Number of renewals within the duration of a lease, so that one may be lost."""

HEARTBEAT = 1.0
"""Seconds between two renewals during a fetch: half of the time after which a store considers the leader dead
(`flagcache.stores.rules.leases.GRACE`)."""

GRACE = 2.0
"""Seconds after which a due fetch that was not granted may be granted to another worker: the same constant."""

_AGAIN = 0.25
"""Refresh intervals between two attempts of a leader, or of the deputy, if the first changed nothing."""

_COLD = 0.5
"""Seconds until the second attempt of a fleet without definitions; all its processes wait for it."""

_TURN = 0.5
"""Refresh intervals from a confirmation without a signature until a worker with a key takes a turn. Its polls ask for
the same (`flagcache.worker.trust`)."""

OFFSET = 0.1
"""Seconds over which the followers of a lost leader spread their attempts."""

_AT_MOST = 1.0
"""Seconds between two attempts of a follower to take an expired lease, if the first changed nothing."""


class ClientActivity(NamedTuple):
    """The state of this process's clients and of its fetch."""

    polls_every: float
    """Seconds between two polls of its clients."""
    last_poll: float
    """When one of their own pollers last polled."""
    able: bool
    """Some running client has a key."""
    longest_fetch: float
    """Seconds that a poll may take when it fetches."""
    interval: float
    """Seconds between two fetches of the fleet."""
    fetching: bool = False
    """A fetch of this process is under way."""
    offset: float = 0.0
    """Random delay of this process's attempts, so that not all processes contend at once."""
    contended_at: float = -math.inf
    """When it last contended for the lease or a grant in the background."""

    def healthy(self, now: float) -> bool:
        """Whether a poller polled recently enough to be considered alive."""
        return self.able and now - self.last_poll <= 2 * self.polls_every + self.longest_fetch


class Schedule(NamedTuple):
    """What is due next, and when. `math.inf`: never."""

    renew_at: float = math.inf
    contend_at: float = math.inf
    over_at: float = math.inf
    """When this process's lease expires unless it is renewed, so that it notices."""

    @property
    def soonest(self) -> float:
        """When the next of these is due."""
        return min(self.renew_at, self.contend_at, self.over_at)


def next_duty(know: Knowledge, view: StoreView, activity: ClientActivity, now: float) -> Schedule:
    """Return what the background has to do next.

    Args:
        know: what this process knows.
        view: what it knows of the store that coordinates it now.
        activity: the state of its clients.
        now: own clock.
    """
    if view.leads:
        return _leaders(know, view, activity, now)
    if not activity.healthy(now) or view.foreign or not view.replied_at:
        return Schedule()
    unsigned_at = _when_unsigned(know, view, activity)
    return Schedule(contend_at=min(_when_free(know, view, activity), _when_overdue(know, view, activity), unsigned_at))


def _leaders(know: Knowledge, view: StoreView, activity: ClientActivity, now: float) -> Schedule:
    if not activity.healthy(now):
        return Schedule(over_at=view.lease_ends)
    # Of the lease in force: on an empty store it is short, and must outlive the first fetch.
    renew_at = view.renewed + (view.lease_ends - view.renewed) / RENEWALS
    if activity.fetching:
        return Schedule(renew_at=min(renew_at, view.renewed + HEARTBEAT), over_at=view.lease_ends)
    contend_at = max(_next_try_at(know, view, activity), activity.contended_at + _AGAIN * activity.interval)
    return Schedule(renew_at=renew_at, contend_at=contend_at, over_at=view.lease_ends)


def _due_at(know: Knowledge, activity: ClientActivity) -> float:
    """When the fleet's next fetch is due. If no grant is known, the next poll finds out."""
    granted = math.inf if know.granted is None else know.granted
    return max(granted + activity.interval, know.backoff.retry_at)


def _next_try_at(know: Knowledge, view: StoreView, activity: ClientActivity) -> float:
    """When the leader fetches: when a fetch is due, or sooner after a failure if the interval has an attempt left."""
    retries = know.backoff.status and not view.exhausted
    return know.backoff.retry_at if retries else _due_at(know, activity)


def _when_free(know: Knowledge, view: StoreView, activity: ClientActivity) -> float:
    """When a follower takes an expired lease. If it expires after the next poll, that poll takes it."""
    free_at = max(view.lease_ends, know.stay_out_until) + activity.offset
    if not view.replied_at + activity.offset < free_at < activity.last_poll + activity.polls_every:
        return math.inf
    return max(free_at, activity.contended_at + min(_AT_MOST, _AGAIN * activity.interval))


def _when_overdue(know: Knowledge, view: StoreView, activity: ClientActivity) -> float:
    """When the deputy checks whether the leader was granted the due fetch."""
    if not view.deputy:
        return math.inf
    overdue_at = max(_due_at(know, activity) + GRACE, know.stay_out_until) + activity.offset
    return max(overdue_at, activity.contended_at + max(GRACE, _AGAIN * activity.interval))


def _when_unsigned(know: Knowledge, view: StoreView, activity: ClientActivity) -> float:
    """When a follower takes a turn because the stored times have no signature, as a release without stamps writes them.

    Its own polls may all come soon after the leader's confirmations, when the store lets no worker take a turn.
    """
    stored, turn = view.stored, _TURN * activity.interval
    if not know.signs or know.held is None or stored is None or stored.stamp:
        return math.inf
    since = min(max(0.0, (view.clock - stored.confirmed_at) / 1000), turn)
    turn_at = max(view.replied_at + turn - since, know.stay_out_until) + activity.offset
    return max(turn_at, activity.contended_at + turn)


def backoff(failures: int, settings: Settings, jitter: float, *, cold: bool = False) -> float:
    """Seconds to wait after `failures` failed fetches in a row: doubled each time up to a ceiling, with jitter.

    The first pause is below a refresh interval, so that one temporary failure costs little.

    Args:
        failures: number of failures before this one.
        settings: of the cache.
        jitter: from 0 to 1.
        cold: there are no definitions, so the next attempt comes soon.
    """
    first = settings.refresh_interval / 4
    pause = (min(first, _COLD) if cold else first) * float(2 ** min(failures, 20))
    return min(settings.backoff_ceiling, pause) * (0.5 + 0.5 * jitter)


def pause_after(know: Knowledge, refused: Refused, settings: Settings, jitter: float) -> float:
    """Seconds to wait after the failed fetch that this process reports.

    Args:
        know: what this process knew before the failure.
        refused: why the fetch failed. If it failed for all workers, the vendor's Retry-After prolongs the pause.
        settings: of the cache.
        jitter: from 0 to 1.
    """
    passing = not refused.status or refused.status >= 500
    pause = backoff(know.failures, settings, jitter, cold=passing and know.held is None)
    if refused.retry_after is None or refused.scope is not Scope.EVERYBODY:
        return pause
    return min(max(refused.retry_after, pause), longest_backoff(settings))
