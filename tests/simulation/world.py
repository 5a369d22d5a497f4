"""The surroundings of a run's processes, and the properties of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flagcache.encoding.codec import Codec
from flagcache.encoding.protection import PLAIN, Protection
from flagcache.encoding.stamps import Stamps
from flagcache.settings import Settings
from tests.simulation.oracle import Oracle
from tests.simulation.posthog import PostHog
from tests.simulation.scheduler import Scheduler
from tests.simulation.stores import Network, SharedStore

__all__ = ["NAMESPACE", "ProcessKind", "World"]

NAMESPACE = "simulated"


@dataclass(slots=True)
class World:
    """What all processes of a run share."""

    scheduler: Scheduler
    posthog: PostHog
    network: Network
    oracle: Oracle
    fleet: SharedStore
    hosts: tuple[SharedStore, ...]
    """Fallback stores, one for each host; may be none."""
    note: Callable[[str], None]
    """Adds a line to the trace."""
    protection: Protection = PLAIN
    """The protection of the envelopes in all stores."""
    paused: float = 0.0
    """Seconds for which own clocks of processes stood still, in all."""

    @property
    def stamps(self) -> Stamps:
        """The stamps of this run, if there is a key."""
        return Codec(NAMESPACE, self.protection, limit=1024).stamps

    @property
    def stores(self) -> tuple[SharedStore, ...]:
        """All stores that processes share."""
        return (self.fleet, *self.hosts)

    def confused(self) -> bool:
        """Whether ages can't be known any more, because a clock was stepped or stopped."""
        return bool(self.paused) or any(store.stepped for store in self.stores)

    def disordered(self, uid: str) -> bool:
        """Whether this store grants in no order any more."""
        return any(store.disordered for store in self.stores if store.uid == uid)


@dataclass(frozen=True, slots=True)
class ProcessKind:
    """The properties of a process."""

    settings: Settings
    poll_interval: float
    attached: bool = True
    listens: bool = True
    """A thread listens for its client, if that is attached."""
    has_key: bool = True
    host: int = 0
    pace: float = 2.5
    """The pace of the process's own memory, in refresh intervals."""
    refresher: bool = False
    """It is a refresher, and takes precedence over workers."""
