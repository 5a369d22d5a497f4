"""A provider whose methods are called one by one."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from posthog.flag_definition_cache import FlagDefinitionCacheProvider

from .access import Direct, data
from .cases import Cases, MakeProvider, Open

__all__ = ["MALFORMED_DATA", "ProtocolCases"]

_VALID = data({"key": "one", "active": True})
_NO_FLAGS: dict[str, object] = {"flags": [], "group_type_mapping": {}, "cohorts": {}}

MALFORMED_DATA: dict[str, object] = {
    "nothing": None,
    "a list": [],
    "empty": {},
    "no flags": {"flags": None, "group_type_mapping": {}, "cohorts": {}},
    "flags by key": {"flags": {"one": {}}, "group_type_mapping": {}, "cohorts": {}},
    "a flag that is no dict": {"flags": ["one"], "group_type_mapping": {}, "cohorts": {}},
    "no group types": {"flags": [], "cohorts": {}},
    "cohorts in a list": {"flags": [], "group_type_mapping": {}, "cohorts": []},
}
"""Malformed data that the SDK would apply in part, or treat as "no flags at all"."""

malformed = pytest.mark.parametrize("wrong", MALFORMED_DATA.values(), ids=MALFORMED_DATA.keys())


class ProtocolCases(Cases):
    """A provider without the SDK."""

    def test_is_a_provider(self, make_provider: MakeProvider, namespace: str) -> None:
        """A provider is an instance of the SDK's own protocol."""
        provider = make_provider(namespace)
        assert isinstance(provider, FlagDefinitionCacheProvider)
        Direct(provider).close()

    def test_the_first_to_ask_is_sent_to_fetch_and_the_second_is_not(self, writer: Direct, reader: Direct) -> None:
        """The first provider that asks must fetch and the second must not: one fetch at a time."""
        assert writer.should_fetch() is True
        assert reader.should_fetch() is False

    def test_what_one_stores_the_others_get(self, writer: Direct, open_provider: Open) -> None:
        """Two readers get what the writer stored, and neither must fetch."""
        self.bring(_VALID, writer)
        for reader in (open_provider(), open_provider()):
            assert reader.should_fetch() is False
            assert reader.get() == _VALID

    def test_a_namespace_keeps_to_itself(self, make_provider: MakeProvider, writer: Direct, namespace: str) -> None:
        """A provider of another namespace gets nothing from this one, and must fetch its own."""
        self.bring(_VALID, writer)
        other = Direct(make_provider(f"{namespace}-2"))
        assert other.should_fetch() is True
        assert other.get() in (None, _NO_FLAGS)
        other.close()

    def test_unknown_keys_pass_through(self, writer: Direct, reader: Direct) -> None:
        """Keys that a newer SDK adds, at the top or in a flag, come back unchanged."""
        newer = data({"key": "one", "later": [1, None, {"": 2.5}]}, property_matching_version=2, later={"a": [True]})
        self.bring(newer, writer)
        reader.should_fetch()
        assert reader.get() == newer

    def test_no_flags_at_all_are_an_answer(self, writer: Direct, reader: Direct) -> None:
        """For a project without flags a provider returns truthy definitions, because with None the SDK would fetch."""
        nothing = data()
        self.bring(nothing, writer)
        for provider in (writer, reader):
            provider.should_fetch()
            assert provider.get() == nothing

    def test_what_it_receives_stays_as_it_is(self, writer: Direct, reader: Direct) -> None:
        """A provider doesn't change the objects that it gets, because the SDK evaluates with them."""
        received = data({"key": "one", "filters": {"groups": [{"rollout_percentage": 100}]}})
        before = copy.deepcopy(received)
        self.bring(received, writer)
        reader.should_fetch()
        reader.get()
        writer.get()
        assert received == before

    def test_it_can_be_shut_down_twice_and_used_afterwards(self, writer: Direct) -> None:
        """The SDK may still call a provider that it has shut down."""
        self.bring(_VALID, writer)
        writer.shutdown()
        writer.shutdown()
        assert isinstance(writer.should_fetch(), bool)
        assert writer.get() in (None, _VALID)
        writer.received(_VALID)
        writer.shutdown()

    def test_an_unused_one_can_be_shut_down(self, writer: Direct) -> None:
        """A client may end before it ever asked."""
        writer.shutdown()

    def test_another_takes_over_from_one_that_was_shut_down(self, writer: Direct, reader: Direct) -> None:
        """After the shutdown of the provider that fetched, another one must fetch."""
        self.bring(_VALID, writer)
        assert reader.should_fetch() is False
        writer.shutdown()
        changed = data({"key": "two"})
        self.bring(changed, reader)
        assert reader.get() == changed

    def test_many_threads_may_call_it(self, writer: Direct) -> None:
        """Eight threads that ask, read and store at once raise nothing and never see incomplete definitions."""
        start = threading.Barrier(8)

        def work(number: int) -> None:
            start.wait(10)
            for round_number in range(5):
                fetch = writer.should_fetch()
                assert (writer.get() or _VALID) in (_VALID, _NO_FLAGS)
                if fetch or number == round_number:
                    writer.received(_VALID)

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(work, number) for number in range(8)]:
                done.result(30)

    def test_malformed_data_are_not_handed_out(self, writer: Direct) -> None:
        """A provider refuses what the SDK could not take as definitions, and takes well-formed data afterwards."""
        assert writer.should_fetch() is True
        for wrong in MALFORMED_DATA.values():
            writer.received(wrong)
        writer.should_fetch()
        assert writer.get() in (None, _NO_FLAGS)
        writer.received(_VALID)
        assert writer.get() == _VALID

    @malformed
    def test_malformed_data_never_erase_valid_definitions(self, writer: Direct, reader: Direct, wrong: object) -> None:
        """Providers with definitions, and new providers, still return the valid definitions."""
        self.bring(_VALID, writer)
        self.bring(wrong, writer, reader)
        for provider in (writer, reader):
            provider.should_fetch()
            assert provider.get() == _VALID
