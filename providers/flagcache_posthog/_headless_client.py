"""A client without an SDK, for a process that fetches for others and evaluates no flags."""

from __future__ import annotations

from flagcache.coordinator import Coordinator
from flagcache.vendor import Definitions, Fetcher

__all__ = ["HeadlessClient"]


class HeadlessClient:
    """A `flagcache.clients.Client` that lets the fleet fetch, and needs no flags.

    Args:
        coordinator: the coordinator that it polls.
        poll_interval: seconds between two polls.
        project: as `Client.project`.
        fetcher: as `Client.fetcher`.
    """

    asking = False
    """No thread asks for definitions here."""
    can_fetch = True
    listening = True
    polls = True

    def __init__(self, coordinator: Coordinator, poll_interval: float, project: str, fetcher: Fetcher) -> None:
        self._coordinator = coordinator
        self.poll_interval = poll_interval
        self.project = project
        self.fetcher = fetcher
        self.ended = False
        self.polls_in_background = True
        """Whether the background may poll for it. If not, the background only renews the lease."""
        self._closed = False

    @property
    def gone(self) -> bool:
        """As `Client.gone`."""
        return self._closed

    @property
    def polling(self) -> bool:
        """As `Client.polling`."""
        return not self.ended

    def has(self, definitions: Definitions) -> bool:
        """As `Client.has`: it needs none."""
        return True

    def differs_from(self, definitions: Definitions) -> bool:
        """As `Client.differs_from`: it needs none."""
        return False

    @property
    def has_no_flags(self) -> bool:
        """As `Client.has_no_flags`: always True, because it keeps none."""
        return True

    def close(self) -> None:
        """As `Client.close`."""
        self._closed = True

    def poll(self) -> None:
        """As `Client.poll`."""
        if self.polls_in_background and not self.ended:
            self._coordinator.should_fetch()
