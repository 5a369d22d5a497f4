"""What all processes of one cache object have in common: settings, vendor, stores, events and known clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import NamedTuple

from flagcache.clients import Clients, ClientSnapshot
from flagcache.core.schedule import GRACE
from flagcache.encoding.codec import Codec
from flagcache.encoding.protection import PLAIN, Protection
from flagcache.events import Events
from flagcache.runtime import process
from flagcache.runtime.callers import Inside
from flagcache.settings import Settings
from flagcache.stores.spec import StoreSpec
from flagcache.vendor import Vendor

__all__ = ["CacheConfig", "Times"]

_TIMES = 16
"""How many results of `_times` are cached: a user may set any interval at any time."""


class Times(NamedTuple):
    """Times that follow from the clients of a cache, in seconds."""

    lease: float
    stale_after: float


def _times(settings: Settings, poll_interval: float | None, listening: bool) -> Times:  # noqa: FBT001 - see `times`
    lease = settings.lease_for(poll_interval, listening=listening)
    return Times(lease, settings.stale_for(poll_interval, listening=listening))


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """What all processes of one cache object have in common.

    The cache's constructor makes it; forked children inherit it.
    """

    namespace: str
    settings: Settings
    vendor: Vendor
    stores: tuple[StoreSpec, ...]
    """Best first; the last one, this process's memory, always answers."""
    events: Events
    clock: Callable[[], float] = process.clock
    """The process's own clock, in seconds."""
    clients: Clients = field(default_factory=Clients)
    """The known clients."""
    inside: Inside = field(default_factory=Inside)
    """Which threads are inside a call of this cache."""
    protection: Protection = PLAIN
    """The protection of the envelopes in all stores."""
    mark: str = ""
    """The beginning of its processes' identities: `stores.base.REFRESHER`, or empty for workers."""
    codec: Codec = field(init=False)
    times: Callable[[float | None, bool], Times] = field(init=False, repr=False, compare=False)
    """What follows from the poll interval of the clients, and from whether any has a listener. Computed once."""

    def __post_init__(self) -> None:
        codec = Codec(self.namespace, self.protection, limit=self.settings.max_decoded_bytes)
        object.__setattr__(self, "codec", codec)
        object.__setattr__(self, "times", lru_cache(_TIMES)(partial(_times, self.settings)))

    @property
    def lease(self) -> float:
        """Seconds that a lease of these processes lasts."""
        return self.times_with(self.clients.snapshot).lease

    @property
    def stale_after(self) -> float:
        """Seconds without a confirmation after which definitions are stale."""
        return self.times_with(self.clients.snapshot).stale_after

    def times_with(self, clients: ClientSnapshot) -> Times:
        """Return the times that follow from these clients."""
        return self.times(clients.poll_interval, bool(clients.listening))

    @property
    def polls_every(self) -> float:
        """Seconds between two polls of a client."""
        return self.settings.polls_every(self.clients.snapshot.poll_interval)

    @property
    def settles_after(self) -> float:
        """Seconds within which a process that writes to the fleet's store does so at least once."""
        return 1.5 * max(self.settings.refresh_interval, self.polls_every) + 2 * GRACE
