"""How one process stands in its fleet, for its status. Does no I/O."""

from __future__ import annotations

from typing import NamedTuple

from flagcache.core.troubles import Trouble
from flagcache.failures import QUOTA
from flagcache.status import Serving
from flagcache.worker.config import CacheConfig
from flagcache.worker.state import ProcessState

__all__ = ["Readiness", "Standing", "standing"]

_TAKES = 5.0
"""Seconds until a client that hasn't taken the first definitions is no longer waited for."""


class Standing(NamedTuple):
    """What a status has besides the definitions held."""

    store: str
    """Address of the store that coordinates this process now."""
    store_answers: bool
    """The fleet's own store did when it was last asked."""
    alone: bool
    """What is in the fleet's store must not be used here."""
    leader: str
    """Identity of the process that led when this one last asked; empty if none did."""
    stale: bool
    """The vendor has not confirmed for too long what is held."""
    serving: Serving
    flags: int
    """How many the clients evaluate with."""
    trouble: Trouble | None


def standing(config: CacheConfig, state: ProcessState) -> Standing:
    """Return how this process stands now."""
    # A store whose content is another project's coordinates nothing here.
    store = next(
        (store_name for store_name in state.stores.answering if not state.troubles.shuns(store_name)),
        state.stores.store_names[-1],
    )
    view, held = state.know.view(store), state.know.held
    others = "" if view.leader == state.me else view.leader
    none = held is None or _without_flags(config, state)
    last_known = state.is_stale or state.know.backoff.status == QUOTA
    return Standing(
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
    """Whether the clients evaluate without what is held. Those that are known show it; a refresher's keeps no flags."""
    held, clients = state.know.held, config.clients.live
    if held is None or config.mark or not clients or not config.vendor.count(held.definitions):
        return state.emptied
    return all(client.has_no_flags for client in clients)


class Readiness:
    """Whether a process has had definitions, and its clients have taken them. Once true, it stays true."""

    def __init__(self, config: CacheConfig, state: ProcessState) -> None:
        self._config = config
        self._state = state
        self._seen_at: float | None = None
        self._reached = False

    def reached(self) -> bool:
        """Return it. A used-up quota counts as taken, and so does a client that takes nothing for seconds."""
        if self._reached or self._state.know.held is None:
            return self._reached
        now = self._config.clock()
        self._seen_at = now if self._seen_at is None else self._seen_at
        taken = self._state.emptied or not _without_flags(self._config, self._state)
        self._reached = taken or not 0 <= now - self._seen_at < _TAKES
        return self._reached
