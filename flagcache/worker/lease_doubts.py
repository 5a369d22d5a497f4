"""How long, by its own clock, a process without definitions believes that another process leads an empty store.

Another program can write a lease that belongs to no worker, once or again and again, and keep the fleet from fetching.
While the store has definitions, their age decides. While it has none, a worker that fetches renews its lease each
second, or has one that is as short as a cold lease. So a process believes one leader for the length of its own cold
lease, or a few seconds, after the last renewal that it sees; and however often the lease is renewed, for the length of
its own longest lease or fetch. Then it asks for the lease in spite of that (`Ask.doubts_lease`). A process with
definitions never does: it stores them again, and in a store that loses them at once (under eviction) an unknown leader
is no sign of an attack.
"""

from __future__ import annotations

from typing import NamedTuple

from flagcache.core.knowledge import Knowledge
from flagcache.stores.base import Ask

__all__ = ["LeaseDoubts"]


_DRIFT = 0.25
"""Seconds by which the computed end of a lease that no process renews may differ between two replies of a store."""


_SILENT = 3.0
"""Seconds within which a lease that is renewed each second shows a renewal, even if two renewals were lost."""


class _EmptyStoreLeader(NamedTuple):
    """A leader of an empty store."""

    leader: str
    since: float
    renewed: float
    """Own clock at the latest reply that showed a renewal of the lease."""
    ends: float
    """When the lease of that reply ends."""


class LeaseDoubts:
    """The leaders of one process's empty stores.

    Args:
        longest_fetch: seconds that a fetch may take.
    """

    def __init__(self, longest_fetch: float) -> None:
        self._longest_fetch = longest_fetch
        self._watched: dict[str, _EmptyStoreLeader] = {}

    def adjust_poll(self, ask: Ask, know: Knowledge, store_name: str, now: float) -> Ask:
        """Return the poll of this store, which says whether its leader is still believed."""
        view = know.view(store_name)
        empty = view.stored is None and know.held is None  # a process with definitions restores a store that lost them
        if not view.leader or view.leads or not empty or know.backoff.status:
            self._watched.pop(store_name, None)
            return ask
        watched = self._watched.get(store_name)
        if watched is None or watched.leader != view.leader:
            watched = _EmptyStoreLeader(view.leader, now, view.replied_at, view.lease_ends)
        elif view.lease_ends > watched.ends + _DRIFT:
            watched = watched._replace(renewed=view.replied_at, ends=view.lease_ends)
        self._watched[store_name] = watched
        longest = max(ask.lease, ask.cold_lease) / 1000
        silent = view.replied_at - watched.renewed > max(ask.cold_lease / 1000, _SILENT)
        return ask._replace(doubts_lease=silent or now - watched.since > max(longest, self._longest_fetch))
