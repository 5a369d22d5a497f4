"""Seats of the baseline for a lost leader: the benchmarks' best provider that is not flagcache."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.contestants.example import connect
from benchmarks.contestants.republishing import RepublishingCache
from flagcache_posthog import MemoryFlagDefinitionCache
from tests.support.client_kinds import make_client
from tests.support.real_fleet import Seat
from tests.support.scenario import Place

__all__ = ["republishing_seats"]


def republishing_seats(place: Place, *, every: float) -> Callable[[int], Seat]:
    """Return what creates a member's seat; its cache isn't used."""
    host = place.posthog.url

    def make(index: int) -> Seat:
        provider = RepublishingCache(connect(place.store_url, timeout=2.0), place.namespace, lease=2 * every)
        client = make_client(host, index, polls=every, provider=provider)
        return Seat(client, MemoryFlagDefinitionCache(f"unused-{index}"))

    return make
