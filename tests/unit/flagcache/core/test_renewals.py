"""When a process last renewed its lease, for how long it renews it, and when it releases it."""

from __future__ import annotations

import pytest

from flagcache.core.knowledge import Knowledge, StoreView
from flagcache.core.order import Held
from flagcache.core.renewals import must_leave, seconds_to_renew, with_last_renewal
from flagcache.settings import Settings
from flagcache.stores.base import Meta

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


def test_a_leader_renews_for_a_short_time_until_there_are_definitions() -> None:
    """Either in the store or in this process. A lease that is shorter anyway stays as it is."""
    settings, meta = Settings(), Meta("v", 0, 1, 1, 1)
    cold = Knowledge().with_view(REDIS, StoreView(leads=True))
    assert seconds_to_renew(cold, REDIS, settings, 60.0) == settings.cold_lease < 60.0
    assert seconds_to_renew(cold, REDIS, settings, 1.0) == 1.0
    for know in (
        cold.with_view(REDIS, StoreView(leads=True, stored=meta)),
        cold._replace(held=Held(meta, {}, REDIS, 100.0)),
    ):
        assert seconds_to_renew(know, REDIS, settings, 60.0) == 60.0


@pytest.mark.parametrize(("leads", "deputy"), [(True, False), (False, True), (False, False)])
def test_the_leader_and_its_deputy_release_their_place(leads: bool, deputy: bool) -> None:
    """A follower has none."""
    assert must_leave(StoreView(leads=leads, deputy=deputy)) == (leads or deputy)
