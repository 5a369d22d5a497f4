"""How one process stands in its fleet, for its status. Does no I/O."""

from __future__ import annotations

from typing import NamedTuple

from flagcache.core.troubles import Trouble
from flagcache.failures import QUOTA
from flagcache.status import Serving
from flagcache.worker.config import Plan
from flagcache.worker.state import Ledger

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


def standing(plan: Plan, ledger: Ledger) -> Standing:
    """Return how this process stands now."""
    # A store whose content is another project's coordinates nothing here.
    store = next((home for home in ledger.tiers.answering if not ledger.troubles.shuns(home)), ledger.tiers.homes[-1])
    contact, held = ledger.know.contact(store), ledger.know.held
    others = "" if contact.leader == ledger.me else contact.leader
    none = held is None or _without_flags(plan, ledger)
    last_known = ledger.is_stale or ledger.know.note.status == QUOTA
    return Standing(
        store=store,
        store_answers=ledger.tiers.first_answers,
        alone=store != ledger.tiers.in_charge.home,
        leader=ledger.me if contact.leads else others,
        stale=ledger.is_stale,
        serving=Serving.NONE if none else Serving.LAST_KNOWN if last_known else Serving.ALL,
        flags=0 if held is None or none else plan.vendor.count(held.definitions),
        trouble=ledger.troubles.gravest,
    )


def _without_flags(plan: Plan, ledger: Ledger) -> bool:
    """Whether the clients evaluate without what is held. Those that are known show it; a refresher's keeps no flags."""
    held, clients = ledger.know.held, plan.clients.live
    if held is None or plan.mark or not clients or not plan.vendor.count(held.definitions):
        return ledger.emptied
    return all(client.blank for client in clients)


class Readiness:
    """Whether a process has had definitions, and its clients have taken them. Once true, it stays true."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self._seen_at: float | None = None
        self._reached = False

    def reached(self) -> bool:
        """Return it. A used-up quota counts as taken, and so does a client that takes nothing for seconds."""
        if self._reached or self._ledger.know.held is None:
            return self._reached
        now = self._plan.clock()
        self._seen_at = now if self._seen_at is None else self._seen_at
        taken = self._ledger.emptied or not _without_flags(self._plan, self._ledger)
        self._reached = taken or not 0 <= now - self._seen_at < _TAKES
        return self._reached
