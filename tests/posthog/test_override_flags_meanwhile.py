"""Clients poll and caches push under an override: neither affects the other."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import cast

import pytest
from posthog import Posthog
from posthog.flag_definition_cache import FlagDefinitionCacheData, FlagDefinitionCacheProvider

from flagcache import from_url
from flagcache_posthog.testing import StandInControl, make_definitions, override_flags, revision_of
from tests.support.servers import until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LONG = 30.0
"""Seconds between two polls: within a test there is none."""


@contextmanager
def _client(
    posthog: StandInControl, cache: FlagDefinitionCacheProvider | None = None, *, polls: float = LONG
) -> Generator[Posthog]:
    made = Posthog(
        "phc_test",
        secret_key="phs_test",
        host=posthog.url,
        poll_interval=cast("int", polls),
        send=False,
        flag_definition_cache_provider=cache,
    )
    try:
        yield made
    finally:
        made.shutdown()


def _load(client: Posthog) -> None:
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped


def _held(client: Posthog) -> int | None:
    """The revision that a client holds, whatever it shows."""
    return revision_of({"flags": client.feature_flags or []})


def _holds(client: Posthog, number: int) -> bool:
    return _held(client) == number


def _shown(client: Posthog) -> dict[str, bool | str] | None:
    return client.get_all_flags("user", only_evaluate_locally=True)


def test_the_sdks_poller_replaces_nothing(posthog: StandInControl) -> None:
    """The SDK's poller takes a change, which is visible as soon as the override ends."""
    with _client(posthog, polls=0.1) as client:
        _load(client)
        with override_flags({"price": "b"}):
            posthog.serve(make_definitions(5, revision=2))
            until(lambda: _held(client) == 2)
            assert _shown(client) == {"price": "b"}
            _load(client)  # an explicit load doesn't either
            assert _shown(client) == {"price": "b"}
        assert client.get_feature_flag("revision", "user") == "r2"


def test_a_change_that_is_published_meanwhile(posthog: StandInControl, store_url: str, namespace: str) -> None:
    """The listener gives it to the client, which shows the override; afterwards the newest flags are there.

    Meanwhile the cache works, and shares what PostHog serves.
    """
    caches = [from_url(store_url, namespace, refresh_interval=0.3) for _ in range(3)]
    with _client(posthog, caches[0]) as leader, _client(posthog, caches[1]) as follower:
        for client in (leader, follower):
            _load(client)
        with override_flags({"price": "b"}):
            for number in (2, 3):
                posthog.serve(make_definitions(5, revision=number))
                for client in (leader, follower):
                    until(partial(_holds, client, number))
                assert [_shown(client) for client in (leader, follower)] == [{"price": "b"}] * 2
            assert [cache.status().trouble for cache in caches[:2]] == ["", ""]
            with _client(posthog, caches[2]) as late:
                _load(late)
                assert (_held(late), len(late.feature_flags or [])) == (3, 6)
        assert [client.get_feature_flag("revision", "user") for client in (leader, follower)] == ["r3", "r3"]


class _Recorded:
    """A provider that keeps what the SDK gives it to share."""

    def __init__(self) -> None:
        self.received: list[FlagDefinitionCacheData] = []

    def should_fetch_flag_definitions(self) -> bool:
        return True

    def get_flag_definitions(self) -> FlagDefinitionCacheData | None:
        return None

    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> None:
        self.received.append(data)

    def shutdown(self) -> None:
        return


def test_no_override_is_shared_with_others(posthog: StandInControl) -> None:
    """What the SDK fetches and gives to its provider is what PostHog served."""
    provider = _Recorded()
    with override_flags({"price": "b"}), _client(posthog, provider) as client:
        _load(client)
        assert _shown(client) == {"price": "b"}
    keys = {flag["key"] for flag in provider.received[0]["flags"]}
    assert keys == {f"flag-{number}" for number in range(5)} | {"revision"}


def test_a_cold_client_loads_when_the_override_is_over(posthog: StandInControl, store_url: str, namespace: str) -> None:
    """A read under an override is no reason to load; the first one afterwards is."""
    with _client(posthog, from_url(store_url, namespace)) as client:
        with override_flags({"price": "b"}):
            assert client.get_feature_flag("price", "user") == "b"
        assert posthog.served() == []
        assert client.get_feature_flag("revision", "user") == "r1"
