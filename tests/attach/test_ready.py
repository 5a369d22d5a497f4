"""A process is ready once its clients evaluate with the definitions."""

from __future__ import annotations

from posthog import Posthog

from flagcache import MemoryFlagDefinitionCache
from flagcache.events import ColdStartRecovered, Event
from flagcache_posthog.testing import StandInControl
from tests.support.servers import until


def test_late_definitions_make_a_process_ready_once_its_client_has_them(
    posthog: StandInControl, namespace: str
) -> None:
    """From the arrival of definitions until the client adopts them, a readiness probe gets False."""
    seen: list[tuple[bool, bool]] = []
    clients: list[Posthog] = []

    def look(event: Event) -> None:
        if isinstance(event, ColdStartRecovered):
            seen.append((cache.ready(), bool(clients[0].feature_flags)))

    cache = MemoryFlagDefinitionCache(namespace, refresh_interval=0.4, cold_start_wait=0.2, on_event=look)
    clients.append(
        Posthog(
            "phc_test",
            secret_key="phs_test",
            host=posthog.url,
            send=False,
            poll_interval=1,
            flag_definition_cache_provider=cache,
        )
    )
    posthog.fail(500)
    clients[0].load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    assert not cache.ready()
    posthog.recover()
    until(lambda: bool(clients[0].feature_flags), 10.0, what="the flags")
    until(cache.ready, 2.0, what="readiness")
    assert seen == [(False, False)]
    posthog.fail(402)
    until(lambda: not clients[0].feature_flags, 10.0, what="the used-up quota")
    assert cache.ready()
    clients[0].shutdown()
