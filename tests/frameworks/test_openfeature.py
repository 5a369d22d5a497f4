"""OpenFeature: PostHog's own provider on a cache, what it asks PostHog, and the events that it emits."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext  # pyright: ignore[reportMissingTypeStubs]
from openfeature.event import EventDetails, ProviderEvent
from openfeature.provider import ProviderStatus  # pyright: ignore[reportMissingTypeStubs]
from posthog import Posthog

from flagcache_posthog import FlagDefinitionCache, MemoryFlagDefinitionCache
from flagcache_posthog.openfeature import FlagcacheProvider
from flagcache_posthog.request_flags import remote_status
from flagcache_posthog.testing import Drop, RemoteStandIn, UnknownFlagError, make_definitions, make_flag, override_flags
from tests.frameworks.conftest import LoadExample, serve_flags
from tests.support.servers import until

USER = EvaluationContext("user-7", {"plan": "team", "groups": {"company": "acme"}})


class Emitted(NamedTuple):
    """An event as a handler gets it."""

    event: ProviderEvent
    details: EventDetails


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """OpenFeature's registry is one for the process."""
    yield
    api.shutdown()


@pytest.fixture
def emitted() -> queue.Queue[Emitted]:
    """What handlers get, in order."""
    got: queue.Queue[Emitted] = queue.Queue()
    for event in ProviderEvent:
        api.add_handler(event, lambda details, event=event: got.put(Emitted(event, details)))  # type: ignore[misc]
    got.get(timeout=10)  # the provider that does nothing is ready
    return got


@pytest.fixture
def clients() -> Iterator[list[Posthog]]:
    """Clients that are shut down when the test ends."""
    made: list[Posthog] = []
    yield made
    for client in made:
        client.shutdown()


def _client(posthog: RemoteStandIn, cache: FlagDefinitionCache, clients: list[Posthog], **options: Any) -> Posthog:  # noqa: ANN401
    client = Posthog(
        "phc_test",
        secret_key="phs_test",
        host=posthog.url,
        send=False,
        poll_interval=1,
        flag_definition_cache_provider=cache,
        feature_flags_request_max_retries=0,
        **options,
    )
    clients.append(client)
    return client


def _set(posthog: RemoteStandIn, cache: FlagDefinitionCache, clients: list[Posthog]) -> OpenFeatureClient:
    api.set_provider_and_wait(FlagcacheProvider(_client(posthog, cache, clients), cache))
    return api.get_client()


def test_the_example(load_example: LoadExample, posthog: RemoteStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """Values come at once, a change is reported with the flag's name, overrides hold, and PostHog gets no request."""
    features = load_example("features.py", cache="refresh_interval=0.3")["features"]
    assert capsys.readouterr().out == "True b\n"
    serve_flags(posthog, price="c")
    printed: list[str] = []

    def all_of_it() -> str:
        printed.append(capsys.readouterr().out)
        return "".join(printed).partition("\n")[1] and "".join(printed)

    assert until(all_of_it, what="the change") == "changed: ['price']\n"
    assert features.get_string_value("price", "a", USER) == "c"
    assert features.get_object_value("price", {}, USER) == {"amount": 9}
    assert features.get_boolean_value("team", False, USER) is True
    with override_flags({"price": "x"}):
        assert features.get_string_value("price", "a", USER) == "x"
    with pytest.raises(UnknownFlagError, match="'prise'"), override_flags({"price": "x"}):
        features.get_string_value("prise", "a", USER)
    assert posthog.counts().flags_calls == 0


def test_what_it_asks_posthog(posthog: RemoteStandIn, namespace: str, clients: list[Posthog]) -> None:
    """It asks nothing by default; with `remote="needed"` a flag that cannot be decided locally, behind the breaker."""
    cache = MemoryFlagDefinitionCache(namespace)
    client = _client(posthog, cache, clients)
    api.set_provider_and_wait(FlagcacheProvider(client, cache))
    features = api.get_client()
    for key in ("sticky-0", "no-such-flag"):
        assert features.get_string_details(key, "a", USER).error_code == "FLAG_NOT_FOUND"
    assert posthog.counts().flags_calls == 0
    api.set_provider_and_wait(FlagcacheProvider(client, cache, remote="needed", default_distinct_id="user-8"))
    assert features.get_string_value("sticky-0", "a", USER) == "s"
    assert features.get_string_value("sticky-1", "a") == "s"
    assert features.get_string_value("no-such-flag", "a", USER) == "a"
    assert posthog.counts().flags_calls == 2
    posthog.fail(Drop(), path="flags")
    assert [features.get_string_value("sticky-0", "a", USER) for _ in range(5)] == ["a"] * 5
    assert remote_status(client) == (5, 3, 0, 2, True)


def test_changes(posthog: RemoteStandIn, namespace: str, clients: list[Posthog], emitted: queue.Queue[Emitted]) -> None:
    """One event for each, with the flags' names if no other can have changed; none for the first load."""
    features = _set(posthog, MemoryFlagDefinitionCache(namespace, refresh_interval=0.2), clients)
    assert emitted.get(timeout=10).event is ProviderEvent.PROVIDER_READY
    first, second = make_definitions(0), make_definitions(0)
    first["flags"] = [make_flag("price", variants={"z": 100}), make_flag("added")]
    second["flags"], second["cohorts"] = first["flags"], {}
    for definitions, expected in ((first, {"price", "added"}), (second, None)):
        posthog.serve(definitions)
        event, details = emitted.get(timeout=10)
        assert event is ProviderEvent.PROVIDER_CONFIGURATION_CHANGED
        names = details.flags_changed
        assert (names if names is None or expected is None else expected & set(names)) == expected
        assert features.get_string_value("price", "a", USER) == "z"
        assert features.get_provider_status() is ProviderStatus.READY
    assert emitted.empty()


def test_stale_and_fresh(
    posthog: RemoteStandIn, namespace: str, clients: list[Posthog], emitted: queue.Queue[Emitted]
) -> None:
    """If PostHog confirms nothing, PROVIDER_STALE is emitted and values stay; PROVIDER_READY once it confirms again."""
    features = _set(posthog, MemoryFlagDefinitionCache(namespace, refresh_interval=0.2, stale_after=1.0), clients)
    assert emitted.get(timeout=10).event is ProviderEvent.PROVIDER_READY
    posthog.fail(Drop())
    event, details = emitted.get(timeout=20)
    assert event is ProviderEvent.PROVIDER_STALE
    assert "clients keep them" in (details.message or "")
    assert features.get_provider_status() is ProviderStatus.STALE
    assert features.get_string_value("price", "a", USER) == "b"
    posthog.recover()
    assert emitted.get(timeout=20).event is ProviderEvent.PROVIDER_READY
    assert features.get_provider_status() is ProviderStatus.READY


def test_a_start_with_stale_definitions(
    posthog: RemoteStandIn, namespace: str, clients: list[Posthog], emitted: queue.Queue[Emitted]
) -> None:
    """A provider that loads stale ones is stale right after OpenFeature has called it ready."""
    earlier = MemoryFlagDefinitionCache(namespace, refresh_interval=0.2)
    client = _client(posthog, earlier, clients)
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    client.shutdown()
    posthog.fail(Drop())
    until(lambda: (earlier.status().age or 0) > 0.5, what="the definitions to be old")
    _set(posthog, MemoryFlagDefinitionCache(namespace, refresh_interval=0.2, stale_after=0.4), clients)
    stale, ready = ProviderEvent.PROVIDER_STALE, ProviderEvent.PROVIDER_READY
    assert [emitted.get(timeout=10).event for _ in range(3)] == [stale, ready, stale]
    assert api.get_client().get_provider_status() is ProviderStatus.STALE


def test_a_start_without_definitions(
    posthog: RemoteStandIn, namespace: str, clients: list[Posthog], emitted: queue.Queue[Emitted]
) -> None:
    """It is ready within the cold start wait, with defaults; the first definitions are a change."""
    posthog.fail(Drop())
    cache = MemoryFlagDefinitionCache(namespace, refresh_interval=0.2, cold_start_wait=0.3, backoff_ceiling=0.3)
    features = _set(posthog, cache, clients)
    assert emitted.get(timeout=10).event is ProviderEvent.PROVIDER_READY
    assert features.get_string_value("price", "a", USER) == "a"
    posthog.recover()
    event, details = emitted.get(timeout=20)
    assert event is ProviderEvent.PROVIDER_CONFIGURATION_CHANGED
    assert details.flags_changed is None or "price" in details.flags_changed
    assert features.get_string_value("price", "a", USER) == "b"
    assert posthog.counts().flags_calls == 0
