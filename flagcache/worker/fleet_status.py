"""The part of a process's status that is not about the definitions held: stores, leader, failures. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from flagcache.core.troubles import Trouble
from flagcache.failures import QUOTA
from flagcache.status import Serving
from flagcache.worker.config import CacheConfig
from flagcache.worker.state import ProcessState

__all__ = ["FleetStatus", "Readiness", "fleet_status"]

_TAKES = 5.0
"""Seconds after which readiness no longer waits for a client that hasn't adopted the first definitions."""


class FleetStatus(NamedTuple):
    """A snapshot of a process's place in its fleet."""

    store: str
    """Address of the store that coordinates this process now."""
    store_answers: bool
    """The fleet's own store answered the last call."""
    alone: bool
    """This process must not use what is in the fleet's store."""
    leader: str
    """Identity of the process that led at this one's last poll; empty if none did."""
    stale: bool
    """The last confirmation of what is held is too old."""
    serving: Serving
    flags: int
    """Number of flags that the clients evaluate with."""
    trouble: Trouble | None


def fleet_status(config: CacheConfig, state: ProcessState) -> FleetStatus:
    """Return the snapshot."""
    # A store with another project's definitions doesn't coordinate this process.
    store = next(
        (store_name for store_name in state.stores.answering if not state.troubles.avoids(store_name)),
        state.stores.store_names[-1],
    )
    view, held = state.know.view(store), state.know.held
    others = "" if view.leader == state.me else view.leader
    none = held is None or _without_flags(config, state)
    last_known = state.is_stale or state.know.backoff.status == QUOTA
    return FleetStatus(
        store=store,
        store_answers=state.stores.first_answers,
        alone=store != state.stores.in_charge.store_name,
        leader=state.me if view.leads else others,
        stale=state.is_stale,
        serving=Serving.NONE if none else Serving.LAST_KNOWN if last_known else Serving.ALL,
        flags=0 if held is None or none else config.vendor.count(held.definitions),
        trouble=state.troubles.gravest,
    )


def _without_flags(config: CacheConfig, state: ProcessState) -> bool:
    """Whether the clients evaluate without flags. Known clients show it, except a refresher's, which keeps no flags."""
    held, clients = state.know.held, config.clients.live
    if held is None or config.mark or not clients or not config.vendor.count(held.definitions):
        return state.emptied
    return all(client.has_no_flags for client in clients)


class Readiness:
    """Whether a process has had definitions, and its clients have adopted them. Once true, it stays true."""

    def __init__(self, config: CacheConfig, state: ProcessState) -> None:
        self._config = config
        self._state = state
        self._seen_at: float | None = None
        self._reached = False

    def reached(self) -> bool:
        """Return it.

        A used-up quota counts as adopted, and so does a client that adopts nothing for `_TAKES` seconds.
        """
        if self._reached or self._state.know.held is None:
            return self._reached
        now = self._config.clock()
        self._seen_at = now if self._seen_at is None else self._seen_at
        taken = self._state.emptied or not _without_flags(self._config, self._state)
        self._reached = taken or not 0 <= now - self._seen_at < _TAKES
        return self._reached
