"""A provider while its store is down."""

from __future__ import annotations

import time
from typing import Protocol

import pytest

from flagcache_posthog.testing.definitions import REVISION_FLAG, make_definitions
from flagcache_posthog.testing.standin import PostHogStandIn

from .access import Direct, data, evaluate, load, sdk, until
from .cases import Cases, MakeProvider

__all__ = ["Outage", "OutageContract"]


class Outage(Protocol):
    """Stops the store and starts it again, with or without its content."""

    def begin(self) -> None:
        """Stop the store: from now on none of its calls succeeds."""
        ...

    def end(self) -> None:
        """Start the store again."""
        ...


class OutageContract(Cases):
    """Tests of a provider whose store can be stopped. Subclass it as `Test...`; add `make_provider` and `outage`."""

    @pytest.fixture
    def outage(self) -> Outage:
        """Return the switch; its effects are undone after the case."""
        raise NotImplementedError("the contract needs a fixture `outage`")

    def test_calls_return_in_time_and_raise_nothing(self, writer: Direct, reader: Direct, outage: Outage) -> None:
        """None of the four methods raises or hangs while the store is down, whether or not it had definitions."""
        self.bring(data({"key": "one"}), writer)
        outage.begin()
        for provider in (writer, reader):
            for call in (
                provider.should_fetch,
                provider.get,
                lambda provider=provider: provider.received(data({"key": "two"})),
                provider.shutdown,
            ):
                began = time.monotonic()
                call()
                assert time.monotonic() - began < self.longest_wait

    def test_a_client_keeps_its_flags(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn, outage: Outage
    ) -> None:
        """While the store and PostHog are down, a client still evaluates with what it holds, after each poll."""
        with sdk(standin, make_provider(namespace)) as first, sdk(standin, make_provider(namespace)) as second:
            load(first)
            load(second)
            outage.begin()
            standin.fail(500)
            for _ in range(3):
                load(first)
                load(second)
                assert evaluate(first, "flag-0") is True
                assert evaluate(second, "flag-0") is True

    def test_a_new_client_helps_itself(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn, outage: Outage
    ) -> None:
        """A client that starts without the store gets its flags from PostHog."""
        outage.begin()
        with sdk(standin, make_provider(namespace)) as client:
            load(client)
            assert evaluate(client, "flag-0") is True

    def test_afterwards_changes_reach_all_again(
        self, make_provider: MakeProvider, namespace: str, standin: PostHogStandIn, outage: Outage
    ) -> None:
        """When the store is back, clients share again, also with a client that starts then."""
        with sdk(standin, make_provider(namespace)) as first:
            load(first)
            outage.begin()
            load(first)
            outage.end()
            standin.serve(make_definitions(revision=2))
            with sdk(standin, make_provider(namespace)) as second:

                def agree() -> bool:
                    load(first)
                    load(second)
                    return evaluate(first, REVISION_FLAG) == evaluate(second, REVISION_FLAG) == "r2"

                until(agree, self.next_fetch, "both clients to hold the change")
