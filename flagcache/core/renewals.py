"""When a process last renewed its lease: pure."""

from __future__ import annotations

from flagcache.core.knowledge import Knowledge, StoreView

__all__ = ["with_last_renewal"]

_DRIFT = 0.01
"""Seconds by which the computed end of an unchanged lease may differ between two replies of a store."""


def with_last_renewal(know: Knowledge, store_name: str, before: StoreView) -> Knowledge:
    """Keep the time of the last renewal if the store's answer shows that the poll renewed nothing.

    A poll that does not contend leaves the lease's end where it was. If it counted as a renewal, frequent pushes would
    put off the next one until the lease expires.
    """
    view = know.view(store_name)
    renewed = not before.leads or view.lease_ends > before.lease_ends + _DRIFT
    if not view.leads or renewed:
        return know
    return know.with_view(store_name, view._replace(renewed=before.renewed))
