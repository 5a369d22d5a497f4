"""The lease of this process: when it was renewed, how long it lasts, when it is over. Pure."""

from __future__ import annotations

from flagcache.core.knowledge import Knowledge, StoreView
from flagcache.settings import Settings

__all__ = ["extended", "lost", "must_leave", "released", "seconds_to_renew", "with_last_renewal"]

_DRIFT = 0.01
"""Seconds by which the computed end of an unchanged lease may differ between two replies of a store."""


def with_last_renewal(know: Knowledge, store_name: str, before: StoreView) -> Knowledge:
    """Keep the time of the last renewal if the reply shows that the poll renewed nothing.

    A poll that does not contend leaves the lease's end where it was. If it counted as a renewal, frequent pushes would
    put off the next one until the lease expires.
    """
    view = know.view(store_name)
    renewed = not before.leads or view.lease_ends > before.lease_ends + _DRIFT
    if not view.leads or renewed:
        return know
    return know.with_view(store_name, view._replace(renewed=before.renewed))


def extended(know: Knowledge, store_name: str, seconds: float, now: float) -> Knowledge:
    """The lease of this store, if this process has it, lasts `seconds` from now."""
    view = know.view(store_name)
    return know.with_view(store_name, view._replace(renewed=now, lease_ends=now + seconds)) if view.leads else know


def released(know: Knowledge, store_name: str, now: float) -> Knowledge:
    """This process has just released the lease of this store, if it had it, so the lease is free."""
    view = know.view(store_name)
    return know.with_view(store_name, view._replace(lease_ends=now)) if view.leads else know


def lost(know: Knowledge, store_name: str) -> Knowledge:
    """This process neither leads in this store nor is its deputy, until a reply says so again."""
    return know.with_view(store_name, know.view(store_name)._replace(leads=False, deputy=False))


def seconds_to_renew(know: Knowledge, store_name: str, settings: Settings, lease: float) -> float:
    """For how long the leader renews: shorter while neither it nor the store has definitions.

    Processes that start wait for the first definitions. If the leader crashes, another one must soon fetch them.
    """
    cold = know.view(store_name).stored is None and know.held is None
    return min(lease, settings.cold_lease) if cold else lease


def must_leave(view: StoreView) -> bool:
    """Whether a process that leaves the fleet has a place in this store that it must release."""
    return view.leads or view.deputy
