"""One cache object, as in a provider, on a store in memory."""

from __future__ import annotations

from flagcache.coordinator import Coordinator
from flagcache.events import Event, Events
from flagcache.stores.memory import MemoryStore
from flagcache.stores.spec import StoreSpec
from flagcache.worker.config import CacheConfig
from tests.support.in_process_fleet import FLEET, OWN, Fleet, Link, content

__all__ = ["InProcessCache", "fetch"]


class InProcessCache:
    """One cache on a store in memory, whose clock and connections a test controls."""

    def __init__(self, fleet: Fleet) -> None:
        self.link = Link(fleet.store)
        self.seen: list[Event] = []
        self.events = Events()
        self.events.subscribe(self.seen.append)
        stores = (StoreSpec(FLEET, self.link.open), StoreSpec(OWN, MemoryStore))
        self.config = CacheConfig("team", fleet.settings, fleet.vendor, stores, self.events, fleet.clock)
        self.coordinator = Coordinator(self.config)


def fetch(cache: InProcessCache, revision: int = 1) -> None:
    """Fetch, as the SDK does."""
    assert cache.coordinator.should_fetch() is True
    cache.coordinator.received(content(revision))
