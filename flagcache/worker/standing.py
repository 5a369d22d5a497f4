"""How one process stands in its fleet, for its status. Does no I/O."""

from __future__ import annotations

from typing import NamedTuple

from flagcache.core.troubles import Trouble
from flagcache.failures import QUOTA
from flagcache.status import Serving
from flagcache.worker.config import Plan
from flagcache.worker.state import Ledger

__all__ = ["Standing", "standing"]


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
