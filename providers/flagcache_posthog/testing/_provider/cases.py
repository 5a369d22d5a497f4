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
"""Makes a provider for the namespace, as another process of its fleet would; each time a new one."""

Open: TypeAlias = "Callable[[], Direct]"
"""Makes a provider for the case's namespace, which is shut down with the case."""


class Cases:
    """The fixtures and bounds of every case; override what does not fit."""

    longest_wait = 5.0
    """Seconds within which every call of a provider returns, also while it waits for another's first fetch."""

    next_fetch = 10.0
    """Seconds within which a provider that fetches is sent again."""

    @pytest.fixture
    def make_provider(self) -> MakeProvider:
        """Make providers onto one backing; it may still hold other namespaces of other tests."""
        raise NotImplementedError("the contract needs a fixture `make_provider`")

    @pytest.fixture
    def make_impatient(self, make_provider: MakeProvider) -> MakeProvider:
        """Make the same, but with the shortest wait for another's first fetch, where that can be set."""
        return make_provider

    @pytest.fixture
    def namespace(self) -> str:
        """Name a namespace that no other test uses."""
        return f"contract-{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def standin(self) -> Iterator[PostHogStandIn]:
        """Serve `make_definitions()`: `flag-0` is on for every user."""
        with PostHogStandIn() as standin:
            yield standin

    @pytest.fixture
    def open_provider(self, make_provider: MakeProvider, namespace: str) -> Iterator[Open]:
        """Open the case's namespace, as one process after the other would."""
        with contextlib.ExitStack() as opened:

            def make() -> Direct:
                provider = Direct(make_provider(namespace))
                opened.callback(provider.close)
                return provider

            yield make

    @pytest.fixture
    def writer(self, open_provider: Open) -> Direct:
        """Open the provider that asks first, and so is sent to fetch."""
        return open_provider()

    @pytest.fixture
    def reader(self, open_provider: Open) -> Direct:
        """Open one that asks later."""
        return open_provider()

    def bring(self, definitions: object, *providers: Direct) -> None:
        """Fetch as the SDK does: ask one after the other until one is sent, which delivers."""

        def brought() -> bool:
            for provider in providers:
                if provider.should_fetch():
                    provider.received(definitions)
                    return True
            return False

        until(brought, self.next_fetch, "a provider to be sent to fetch")
