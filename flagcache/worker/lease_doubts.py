"""How long a process without definitions believes that another one leads an empty store: on its own clock.

Another program can write a lease that belongs to no worker, again and again, and keep the fleet from fetching. While
the store has definitions, their age decides. While it has none, a process believes one leader for the length of its own
longest lease or fetch, and then asks for the lease all the same (`Ask.doubts`). A process with definitions never does:
it stores them again, and in a store that loses them at once (under eviction) an unknown leader is no sign of an attack.
"""

from __future__ import annotations

from typing import NamedTuple

from flagcache.core.knowledge import Knowledge
from flagcache.stores.base import Ask

__all__ = ["LeaseDoubts"]


class _Watched(NamedTuple):
    """A leader of an empty store."""

    leader: str
    since: float


class LeaseDoubts:
    """The leaders of one process's stores that have published nothing yet.

    Args:
        longest_fetch: seconds that a fetch may take.
    """

    def __init__(self, longest_fetch: float) -> None:
        self._longest_fetch = longest_fetch
        self._watched: dict[str, _Watched] = {}

    def adjust_poll(self, ask: Ask, know: Knowledge, store_name: str, now: float) -> Ask:
        """The poll of this store, which says whether its leader is still believed."""
        view = know.view(store_name)
        empty = view.stored is None and know.held is None  # what a process holds fills a store that lost it
        if not view.leader or view.leads or not empty or know.backoff.status:
            self._watched.pop(store_name, None)
            return ask
        watched = self._watched.get(store_name)
        if watched is None or watched.leader != view.leader:
            watched = self._watched[store_name] = _Watched(view.leader, now)
        longest = max(ask.lease, ask.cold_lease) / 1000
        return ask._replace(doubts_lease=now - watched.since > max(longest, self._longest_fetch))
