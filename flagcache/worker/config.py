"""What all processes of one cache object have in common: settings, vendor, stores, events and known clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flagcache.clients import Clients
from flagcache.core.schedule import GRACE
from flagcache.encoding.codec import Codec
from flagcache.encoding.protection import PLAIN, Protection
from flagcache.events import Events
from flagcache.runtime import process
from flagcache.runtime.callers import Inside
from flagcache.settings import Settings
from flagcache.stores.spec import StoreSpec
from flagcache.vendor import Vendor

__all__ = ["CacheConfig"]


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Made once, in the constructor of a cache; inherited by forked children as it is."""

    namespace: str
    settings: Settings
    vendor: Vendor
    stores: tuple[StoreSpec, ...]
    """Best first; the last always answers."""
    events: Events
    clock: Callable[[], float] = process.clock
    """The process's own clock, in seconds."""
    clients: Clients = field(default_factory=Clients)
    """Those that are known."""
    inside: Inside = field(default_factory=Inside)
    """Which threads are at work in this cache."""
    protection: Protection = PLAIN
    """Of the envelopes in all stores."""
    mark: str = ""
    """What the identities of its processes begin with: `stores.base.REFRESHER`, or nothing for workers."""
    codec: Codec = field(init=False)

    def __post_init__(self) -> None:
        codec = Codec(self.namespace, self.protection, limit=self.settings.max_decoded_bytes)
        object.__setattr__(self, "codec", codec)

    @property
    def lease(self) -> float:
        """Seconds that a lease of these processes lasts."""
        return self.settings.lease_for(self.clients.poll_interval, listening=bool(self.clients.listening))

    @property
    def stale_after(self) -> float:
        """Seconds without a confirmation after which definitions are stale."""
        return self.settings.stale_for(self.clients.poll_interval, listening=bool(self.clients.listening))

    @property
    def polls_every(self) -> float:
        """Seconds between two polls of a client."""
        return self.settings.polls_every(self.clients.poll_interval)

    @property
    def settles_after(self) -> float:
        """Seconds within which a process that writes into the fleet's store at all does so at least once."""
        return 1.5 * max(self.settings.refresh_interval, self.polls_every) + 2 * GRACE
