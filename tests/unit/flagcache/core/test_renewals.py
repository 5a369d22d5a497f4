"""When a process last renewed its lease."""

from __future__ import annotations

import pytest

from flagcache.core.knowledge import Knowledge, StoreView
from flagcache.core.renewals import with_last_renewal

REDIS = "redis://a/0"


@pytest.mark.parametrize(
    ("before", "after", "renewed"),
    [
        (StoreView(leads=True, lease_ends=160, renewed=100), StoreView(leads=True, lease_ends=170, renewed=110), 110),
        (StoreView(leads=True, lease_ends=160, renewed=100), StoreView(leads=True, lease_ends=160, renewed=110), 100),
        (
            StoreView(leads=True, lease_ends=160, renewed=100),
            StoreView(leads=True, lease_ends=160.009, renewed=110),
            100,
        ),
        (StoreView(lease_ends=160, renewed=40), StoreView(leads=True, lease_ends=160, renewed=110), 110),
        (StoreView(leads=True, lease_ends=160, renewed=100), StoreView(lease_ends=160, renewed=110), 110),
    ],
    ids=["renewed", "unchanged", "unchanged but for the drift", "taken", "lost"],
)
def test_only_a_poll_that_moved_the_leases_end_renewed_it(before: StoreView, after: StoreView, renewed: float) -> None:
    """Frequent polls that don't contend would put off the next renewal until the lease expires."""
    know = Knowledge().with_view(REDIS, after)
    assert with_last_renewal(know, REDIS, before).view(REDIS) == after._replace(renewed=renewed)
