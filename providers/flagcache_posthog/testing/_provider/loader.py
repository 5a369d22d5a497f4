"""A provider in the real SDK's client: the behaviours on which PostHog's SDKs agree.

Some are behaviours of the SDK itself. They are here because a provider needs them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from posthog.flag_definition_cache import FlagDefinitionCacheProvider

from flagcache_posthog.testing.definitions import REVISION_FLAG, make_definitions
from flagcache_posthog.testing.standin import PostHogStandIn

from .access import AsyncView, Broken, Direct, evaluate, held, load, sdk, until
from .cases import Cases, MakeProvider, Open
from .protocol import malformed

__all__ = ["LoaderCases"]


def _as_it_is(provider: FlagDefinitionCacheProvider) -> FlagDefinitionCacheProvider:
    return provider


class LoaderCases(Cases):
    """A provider under the real SDK. The clients own their providers and shut them down."""

    @pytest.mark.parametrize("view", [_as_it_is, AsyncView], ids=["as it is", "all awaited"])
    def test_the_sdk_takes_its_answers_plain_or_awaited(
        self,
        make_provider: MakeProvider,
        namespace: str,
        standin: PostHogStandIn,
        view: Callable[[FlagDefinitionCacheProvider], FlagDefinitionCacheProvider],
    ) -> None:
        """One client fetches and stores, and another gets the definitions, with plain or asynchronous methods."""
        with (
            sdk(standin, view(make_provider(namespace))) as first,
            sdk(standin, view(make_provider(namespace))) as second,
        ):
            load(first)
            assert standin.requests == 1
            load(second)
            assert standin.requests == 1
            assert held(second) == held(first)
            assert evaluate(second, "flag-0") is True

    def test_without_need_to_fetch_and_with_data_there_is_no_request(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn
    ) -> None:
        """A client whose provider says "do not fetch", and has definitions, makes no request at any poll."""
        with sdk(standin, make_provider(namespace)) as first, sdk(standin, make_provider(namespace)) as second:
            load(first)
            requests = standin.requests
            for _ in range(3):
                load(second)
            assert standin.requests == requests
            assert evaluate(second, "flag-0") is True

    def test_without_flags_there_is_no_request_either(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn
    ) -> None:
        """A project without flags looks to the SDK like "nothing yet", but clients still don't fetch at every poll."""
        standin.serve({"flags": [], "group_type_mapping": {}, "cohorts": {}})
        with sdk(standin, make_provider(namespace)) as first, sdk(standin, make_provider(namespace)) as second:
            load(first)
            requests = standin.requests
            for _ in range(3):
                load(second)
            assert standin.requests == requests

    def test_after_an_own_fetch_the_store_holds_all(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn, reader: Direct
    ) -> None:
        """After its own fetch a client stores flags, group types and cohorts as PostHog served them."""
        with sdk(standin, make_provider(namespace)) as client:
            load(client)
            reader.should_fetch()
            stored, served = reader.get(), standin.definitions()
            assert stored is not None
            assert stored["flags"] == served["flags"]
            assert stored["group_type_mapping"] == served["group_type_mapping"]
            assert stored["cohorts"] == served["cohorts"]

    def test_a_change_reaches_the_others(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn
    ) -> None:
        """After their next poll the other clients evaluate with the change that the fetching client found."""
        with sdk(standin, make_provider(namespace)) as first, sdk(standin, make_provider(namespace)) as second:
            load(first)
            load(second)
            standin.serve(make_definitions(revision=2))

            def changed() -> bool:
                load(first)
                load(second)
                return evaluate(second, REVISION_FLAG) == "r2"

            until(changed, self.next_fetch, "the change to reach the second client")
            assert held(second) == held(first)

    def test_a_failing_read_keeps_what_is_loaded(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn, writer: Direct
    ) -> None:
        """If its provider's read fails, a client keeps its definitions, even if PostHog is down too."""
        self.bring(standin.definitions(), writer)
        provider = Broken(make_provider(namespace))
        with sdk(standin, provider) as client:
            load(client)
            provider.broken = {"get_flag_definitions"}
            standin.fail(500)
            load(client)
            assert provider.raised
            assert evaluate(client, "flag-0") is True

    def test_a_failing_decision_fetches(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn
    ) -> None:
        """If its provider can't decide, a client fetches for itself, and the provider takes the result."""
        provider = Broken(make_provider(namespace), "should_fetch_flag_definitions")
        with sdk(standin, provider) as client:
            load(client)
            assert standin.requests == 1
            assert evaluate(client, "flag-0") is True
            provider.broken = set()
            load(client)
            assert evaluate(client, "flag-0") is True

    def test_a_failing_store_keeps_what_was_fetched(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn
    ) -> None:
        """A client keeps in memory what its provider could not store; it may also fetch for itself."""
        provider = Broken(make_provider(namespace), "on_flag_definitions_received")
        with sdk(standin, provider) as client:
            load(client)
            assert standin.requests == 1
            assert evaluate(client, "flag-0") is True

    def test_a_failing_shutdown_does_not_break_the_clients(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn
    ) -> None:
        """If its provider's shutdown fails, the client still shuts down, and so does the provider at a second call."""
        inner = make_provider(namespace)
        provider = Broken(inner, "shutdown")
        with sdk(standin, provider) as client:
            load(client)
        assert provider.raised
        Direct(inner).shutdown()

    @malformed
    def test_malformed_data_never_erase_a_clients_definitions(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn, writer: Direct, wrong: object
    ) -> None:
        """A client still evaluates after another one delivered malformed data, even if PostHog is down too."""
        self.bring(standin.definitions(), writer)
        provider = make_provider(namespace)
        with sdk(standin, provider) as client:
            load(client)
            standin.fail(500)
            self.bring(wrong, writer, Direct(provider))
            load(client)
            assert evaluate(client, "flag-0") is True

    def test_the_cache_outlives_a_clients_shutdown(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn, open_provider: Open
    ) -> None:
        """The other clients still have what a client fetched before its shutdown."""
        stays = open_provider()
        with sdk(standin, make_provider(namespace)) as client:
            load(client)
        stays.should_fetch()
        stored = stays.get()
        assert stored is not None
        assert stored["flags"] == standin.definitions()["flags"]
