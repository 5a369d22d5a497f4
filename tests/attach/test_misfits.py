"""Clients that don't use their cache, or can't fetch: refused, or reported once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import cast

import pytest
from posthog import Posthog
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache import ConfigurationError, FlagDefinitionCache, MemoryFlagDefinitionCache
from flagcache_posthog.testing import StandInControl
from tests.support.attached_clients import errors
from tests.support.own_threads import threads_of
from tests.support.servers import until

EVERY = 0.3

MakeClient = Callable[..., Posthog]


class WrappingProvider:
    """A user's own provider around a cache; it counts the calls."""

    def __init__(self, cache: FlagDefinitionCache | None) -> None:
        self.cache = cache
        self.asked = 0

    def should_fetch_flag_definitions(self) -> bool:
        """As the cache; True without one."""
        self.asked += 1
        return self.cache is None or self.cache.should_fetch_flag_definitions()

    def get_flag_definitions(self) -> FlagDefinitionCacheData | None:
        """As the cache."""
        return self.cache.get_flag_definitions() if self.cache else None

    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> None:
        """As the cache."""
        if self.cache:
            self.cache.on_flag_definitions_received(data)

    def shutdown(self) -> None:
        """As the cache."""
        if self.cache:
            self.cache.shutdown()


@pytest.fixture
def cache(namespace: str) -> FlagDefinitionCache:
    """In memory."""
    return MemoryFlagDefinitionCache(namespace, refresh_interval=EVERY)


@pytest.fixture
def make_client(posthog: StandInControl) -> Iterator[MakeClient]:
    """Makes a client, which is shut down at the end."""
    with ExitStack() as clients:

        def make(provider: object = None, **more: object) -> Posthog:
            options: dict[str, object] = {"secret_key": "phs_0", "host": posthog.url, "poll_interval": EVERY, **more}
            build = cast("Callable[..., Posthog]", Posthog)
            client = build("phc_test", flag_definition_cache_provider=provider, flush_at=1, **options)
            clients.callback(client.shutdown)
            return client

        yield make


def test_a_client_without_a_provider_is_refused(cache: FlagDefinitionCache, make_client: MakeClient) -> None:
    """A client without a provider would ask PostHog itself; the error names the remedy, also for the global client."""
    with pytest.raises(ConfigurationError, match=r"create it with flag_definition_cache_provider=.*posthog\.capture"):
        cache.attach(make_client())
    assert threads_of() == []


def test_a_client_of_another_cache_is_refused(
    cache: FlagDefinitionCache, make_client: MakeClient, namespace: str
) -> None:
    """A client has one cache: the one that it was created with."""
    other = MemoryFlagDefinitionCache(f"{namespace}-2")
    client = make_client(other)
    with pytest.raises(ConfigurationError, match="uses another cache: attach it to the one"):
        cache.attach(client)
    assert other.attach(client) is client


@pytest.mark.parametrize("host", ["eu.i.posthog.com", "//eu.i.posthog.com", "localhost:8000"])
def test_a_host_without_a_scheme_is_refused(cache: FlagDefinitionCache, make_client: MakeClient, host: str) -> None:
    """A host without a scheme is refused, because neither the fleet nor the SDK could make a request."""
    with pytest.raises(ConfigurationError, match="must begin with https:// or http://"):
        cache.attach(make_client(cache, host=host))


def test_a_client_without_a_key_is_one_error(
    cache: FlagDefinitionCache, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """One ERROR has the remedy, and the application starts as with the SDK alone. A disabled client needs none."""
    cache.attach(make_client(cache, secret_key=None, disabled=True))
    assert not errors(caplog)
    clients = [make_client(cache, secret_key=None) for _ in range(2)]
    for client in clients:
        assert cache.attach(client) is client
        client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        assert client.evaluate_flags("user", only_evaluate_locally=True).get_flag("flag-1") is None
    (error,) = errors(caplog)
    assert "no secret key" in error
    assert "Set secret_key=" in error


def test_a_provider_around_the_cache_is_taken(
    cache: FlagDefinitionCache, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Its first call shows that it uses the cache, and the thread that checks ends then."""
    around = WrappingProvider(cache)
    client = cache.attach(make_client(around))
    assert "flagcache-watch" in threads_of()
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    until(lambda: "flagcache-watch" not in threads_of(), 5.0, what="the looking to end")
    assert cache.ready()
    assert around.asked
    assert not errors(caplog)


def test_a_provider_that_never_calls_the_cache_is_named_once(
    cache: FlagDefinitionCache, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The error comes when its client has polled past the cache, because it can't be detected earlier."""
    client = cache.attach(make_client(WrappingProvider(None)))
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    until(lambda: bool(errors(caplog)), 5.0, what="the error")
    until(lambda: threads_of() == [], 5.0, what="the looking to end")
    assert not cache.ready()
    (error,) = errors(caplog)
    assert "without calling this cache" in error


def test_a_reader_looks_when_it_is_asked_whether_it_is_ready(
    make_client: MakeClient, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader checks its clients when `ready` is called, and starts no thread."""
    cache = MemoryFlagDefinitionCache(namespace, refresh_interval=EVERY, role="reader")
    client = cache.attach(make_client(WrappingProvider(None)))
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    assert threads_of() == []
    until(lambda: not cache.ready() and bool(errors(caplog)), 5.0, what="the error")
    assert len(errors(caplog)) == 1
