"""Contexts of the baseline for a lost leader: the benchmarks' best provider that is not flagcache."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.contestants.example import connect
from benchmarks.contestants.republishing import RepublishingCache
from flagcache_posthog import MemoryFlagDefinitionCache
from tests.support.client_kinds import make_client
from tests.support.real_fleet import MemberContext
from tests.support.scenario import Backends

__all__ = ["republishing_contexts"]


def republishing_contexts(backends: Backends, *, every: float) -> Callable[[int], MemberContext]:
    """Return what creates a member's context; its cache isn't used."""
    host = backends.posthog.url

    def make(index: int) -> MemberContext:
        provider = RepublishingCache(connect(backends.store_url, timeout=2.0), backends.namespace, lease=2 * every)
        client = make_client(host, index, polls=every, provider=provider)
        return MemberContext(client, MemoryFlagDefinitionCache(f"unused-{index}"))

    return make
