"""What all processes of one cache object have in common: settings, vendor, stores, events and attached clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flagcache.clients import Clients
from flagcache.encoding.codec import Codec
from flagcache.encoding.protection import PLAIN, Protection
from flagcache.events import Events
from flagcache.runtime import process
from flagcache.settings import Settings
from flagcache.stores.spec import StoreSpec
from flagcache.vendor import Vendor

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
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
    """Those that were attached."""
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
        return self.settings.lease_for(self.clients.poll_interval)

    @property
    def polls_every(self) -> float:
        """Seconds between two polls of a client."""
        return self.settings.polls_every(self.clients.poll_interval)
