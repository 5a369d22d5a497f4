"""An application's tests may freeze time: first loads, waits and fetches use our own clock and continue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from freezegun import freeze_time
from posthog import Posthog

from flagcache import from_url
from flagcache.runtime.clock import monotonic
from flagcache_posthog.testing import PostHogStandIn, make_definitions, revision_of
from tests.support.servers import MakeRedis

pytestmark = pytest.mark.usefixtures("no_threads_left")

REAL = time.clock_gettime
DAY = "2031-05-06"


def seconds() -> float:
    """The time that really passes."""
    return REAL(time.CLOCK_MONOTONIC)


def passes(condition: Callable[[], object], within: float) -> bool:
    """Wait in real time."""
    until = seconds() + within
    while not condition():
        if seconds() > until:
            return False
        threading.Event().wait(0.01)
    return True


def flags_of(client: Posthog) -> int:
    """How many flags a local evaluation finds."""
    return len(client.evaluate_flags("user", only_evaluate_locally=True).keys)


def test_our_clock_goes_on() -> None:
    """Our clock continues, whatever `time` returns."""
    with freeze_time(DAY):
        stands, before = time.monotonic(), monotonic()
        assert passes(lambda: monotonic() > before, 5.0)
        assert time.monotonic() == stands


@pytest.mark.parametrize("auto_attach", [True, False], ids=["attached", "unattached"])
def test_a_first_evaluation_has_flags_and_changes_come(store_url: str, namespace: str, auto_attach: bool) -> None:
    """A cache lives entirely in frozen time: its construction, its first load, fetches, and its end."""
    with PostHogStandIn(make_definitions(5)) as posthog, freeze_time(DAY):
        cache = from_url(store_url, namespace, refresh_interval=0.3, auto_attach=auto_attach)
        client = Posthog("phc_test", secret_key="phs_test", host=posthog.url, flag_definition_cache_provider=cache)
        began = seconds()
        assert flags_of(client)
        assert seconds() - began < 3.0
        posthog.serve(make_definitions(5, revision=2))

        def changed() -> bool:
            client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
            return revision_of({"flags": client.feature_flags}) == 2

        assert passes(changed, 10.0)
        began = seconds()
        client.shutdown()
        assert seconds() - began < 8.0  # the SDK's sender of events waits for up to 5 s


@pytest.mark.parametrize("redis_is", ["there", "frozen"])
def test_a_first_evaluation_without_any_definitions_ends(make_redis: MakeRedis, namespace: str, redis_is: str) -> None:
    """Another process has the lease and brings nothing: the wait ends in time."""
    server = make_redis(tcp=True)
    with PostHogStandIn(make_definitions(5)) as posthog:
        other = from_url(server.url, namespace, auto_attach=False, fallback=None)
        assert other.should_fetch_flag_definitions()
        if redis_is == "frozen":
            server.freeze()
        with freeze_time(DAY):
            cache = from_url(server.url, namespace, cold_start_wait=1.0, store_timeout=0.3, fallback=None)
            client = Posthog("phc_test", secret_key="phs_test", host=posthog.url, flag_definition_cache_provider=cache)
            began = seconds()
            flags_of(client)
            assert seconds() - began < 3.0
            client.shutdown()
        server.thaw()
        other.shutdown()
