"""When a process last renewed its lease: pure."""

from __future__ import annotations

from flagcache.core.knowledge import Contact, Knowledge

__all__ = ["with_last_renewal"]

_DRIFT = 0.01
"""Seconds by which the computed end of an unchanged lease may differ between two replies of a store."""


def with_last_renewal(know: Knowledge, home: str, before: Contact) -> Knowledge:
    """Keep the time of the last renewal if the store's answer shows that the poll renewed nothing.

    A poll that does not contend leaves the lease's end where it was. If it counted as a renewal, frequent pushes would
    put off the next one until the lease expires.
    """
    contact = know.contact(home)
    renewed = not before.leads or contact.lease_ends > before.lease_ends + _DRIFT
    if not contact.leads or renewed:
        return know
    return know.with_contact(home, contact._replace(renewed=before.renewed))
