"""When the listener of a process has to do what: pure.

The leader renews its lease on the listener's own clock while a client's poller lives. A follower contends once when the
lease that it knows of ends before its own next poll would notice. Whoever was pushed looks a tick later whether it
worked. Times are seconds of the process's own clock.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from flagcache.core.knowledge import Contact, Knowledge

__all__ = ["Duties", "Pulse", "next_duty"]

RENEWALS = 3
"""How often a lease is renewed in its own length: one renewal may be lost."""


class Pulse(NamedTuple):
    """How the clients of this process are."""

    polls_every: float
    """Seconds between two polls of its clients."""
    last_poll: float
    """When one of their own pollers last asked."""
    able: bool
    """Some client has a key and lives."""
    longest_fetch: float
    """Seconds that a poll may take when it fetches."""
    offset: float = 0.0
    """By how much later than others this process contends, so that not all do it at once."""
    contended_for: float = 0.0
    """When it last did: once for each lease."""

    def healthy(self, now: float) -> bool:
        """Whether a poller asked recently enough to be trusted to go on."""
        return self.able and now - self.last_poll <= 2 * self.polls_every + self.longest_fetch


class Duties(NamedTuple):
    """What is due next, and when. `math.inf`: never."""

    renew_at: float = math.inf
    contend_at: float = math.inf
    over_at: float = math.inf
    """When the lease of this process is over unless it is renewed: to be noticed."""

    @property
    def soonest(self) -> float:
        """When something is due."""
        return min(self.renew_at, self.contend_at, self.over_at)


def next_duty(know: Knowledge, contact: Contact, pulse: Pulse, now: float) -> Duties:
    """Tell what the listener has to do next, as things stand.

    Args:
        know: what this process knows.
        contact: what it knows of the fleet's store.
        pulse: how its clients are.
        now: the present.
    """
    next_poll = pulse.last_poll + pulse.polls_every
    if contact.leads:
        # Of the lease in force: on an empty store it is a short one, which has to outlive the first fetch.
        renew_at = contact.renewed + (contact.lease_ends - contact.renewed) / RENEWALS
        soon = contact.heard < know.retry_at < next_poll and know.retry_at != pulse.contended_for
        return Duties(
            renew_at=renew_at if pulse.healthy(now) else math.inf,
            contend_at=know.retry_at if soon else math.inf,
            over_at=contact.lease_ends,
        )
    if not pulse.healthy(now) or contact.foreign or not contact.heard:
        return Duties()
    free_at = max(contact.lease_ends, know.stay_out_until) + pulse.offset
    # A lease that ends after the next poll is that poll's business.
    soon = contact.heard + pulse.offset < free_at < next_poll and free_at != pulse.contended_for
    return Duties(contend_at=free_at if soon else math.inf)
