"""The base of all cases: their own namespace, a stand-in for PostHog, and providers that are shut down."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from posthog.flag_definition_cache import FlagDefinitionCacheProvider

from flagcache_posthog.testing.standin import PostHogStandIn

from .access import Direct, until

__all__ = ["Cases", "MakeProvider", "Open"]

MakeProvider: TypeAlias = "Callable[[str], FlagDefinitionCacheProvider]"
"""Makes a new provider for the namespace, as another process of its fleet would."""

Open: TypeAlias = "Callable[[], Direct]"
"""Makes a provider for the case's namespace, which is shut down at the end of the case."""


class Cases:
    """The fixtures and time limits of every case; override those that don't fit."""

    longest_wait = 5.0
    """Seconds within which every call of a provider returns, also while it waits for another process's first fetch."""

    next_fetch = 10.0
    """Seconds within which a provider that fetched must fetch again."""

    @pytest.fixture
    def make_provider(self) -> MakeProvider:
        """Return a function that makes providers on one store, which may still hold other tests' namespaces."""
        raise NotImplementedError("the contract needs a fixture `make_provider`")

    @pytest.fixture
    def make_impatient(self, make_provider: MakeProvider) -> MakeProvider:
        """Return the same, but with the shortest wait for another process's first fetch, if that can be set."""
        return make_provider

    @pytest.fixture
    def namespace(self) -> str:
        """Return a namespace that no other test uses."""
        return f"contract-{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def standin(self) -> Iterator[PostHogStandIn]:
        """Serve `make_definitions()`: `flag-0` is on for every user."""
        with PostHogStandIn() as standin:
            yield standin

    @pytest.fixture
    def open_provider(self, make_provider: MakeProvider, namespace: str) -> Iterator[Open]:
        """Return a function that opens the case's namespace, each time as another process would."""
        with contextlib.ExitStack() as opened:

            def make() -> Direct:
                provider = Direct(make_provider(namespace))
                opened.callback(provider.close)
                return provider

            yield make

    @pytest.fixture
    def writer(self, open_provider: Open) -> Direct:
        """Open the provider that asks first, and so must fetch."""
        return open_provider()

    @pytest.fixture
    def reader(self, open_provider: Open) -> Direct:
        """Open a provider that asks later."""
        return open_provider()

    def bring(self, definitions: object, *providers: Direct) -> None:
        """Fetch as the SDK does: ask one provider after the other until one must fetch, and deliver to it."""

        def brought() -> bool:
            for provider in providers:
                if provider.should_fetch():
                    provider.received(definitions)
                    return True
            return False

        until(brought, self.next_fetch, "a provider that must fetch")
