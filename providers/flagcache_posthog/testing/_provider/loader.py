"""What a client of the real SDK does with a provider: the behaviours on which PostHog's SDKs agree.

Some of them are the SDK's own, given any provider; they are here because a provider is of use only while they hold.
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
    """A provider under the real SDK. The providers are the clients', who shut them down."""

    @pytest.mark.parametrize("view", [_as_it_is, AsyncView], ids=["as it is", "all awaited"])
    def test_the_sdk_takes_its_answers_plain_or_awaited(
        self,
        make_provider: MakeProvider,
        namespace: str,
        standin: PostHogStandIn,
        view: Callable[[FlagDefinitionCacheProvider], FlagDefinitionCacheProvider],
    ) -> None:
        """One client fetches and stores, another gets it, whether the methods answer or are awaited."""
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
        """A client whose provider says "do not fetch", and has definitions, leaves PostHog alone, poll after poll."""
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
        """No flags at all, which the SDK takes for "nothing yet", do not make every client fetch at every poll."""
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
        """Flags, group types and cohorts, as PostHog served them."""
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
        """What the fetching client finds new, the others evaluate with after their next poll."""
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
        """A client whose provider fails to answer goes on with its definitions, even if PostHog is away too."""
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
        """A client whose provider cannot decide helps itself, and the provider takes what it brings."""
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
        """What the provider cannot store is in the client's memory all the same; it may also fetch by itself."""
        provider = Broken(make_provider(namespace), "on_flag_definitions_received")
        with sdk(standin, provider) as client:
            load(client)
            assert standin.requests == 1
            assert evaluate(client, "flag-0") is True

    def test_a_failing_shutdown_does_not_break_the_clients(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn
    ) -> None:
        """The client ends in order, and so does the provider when it is asked once more."""
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
        """A client that evaluates goes on evaluating when another delivers nonsense, and PostHog is away too."""
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
        """What a client fetched before it ended is there for those that stay."""
        stays = open_provider()
        with sdk(standin, make_provider(namespace)) as client:
            load(client)
        stays.should_fetch()
        stored = stays.get()
        assert stored is not None
        assert stored["flags"] == standin.definitions()["flags"]
