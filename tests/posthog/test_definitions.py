"""Which definitions are accepted, and which are refused."""

from __future__ import annotations

import copy
from importlib import metadata
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from posthog import Posthog
from posthog.flag_definition_cache import FlagDefinitionCacheProvider

from flagcache.errors import EnvelopeError
from flagcache.vendor import Definitions
from flagcache_posthog.definitions import PostHogVendor
from flagcache_posthog.testing import PostHogStandIn, make_definitions

VENDOR = PostHogVendor()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
"""Any JSON value."""

flags = st.lists(st.dictionaries(st.text(), json_values, max_size=3).map(lambda flag: {**flag, "key": "a"}), max_size=3)
"""Well-formed definitions with any content."""

keyed = st.lists(st.dictionaries(st.sampled_from(["key", "id"]), json_values), max_size=4)
"""Flags with any key, or with none."""


def well_formed(**other: object) -> dict[str, object]:
    """Return definitions with a part replaced."""
    return {"flags": [{"key": "one"}], "group_type_mapping": {"0": "company"}, "cohorts": {}, **other}


def without(key: str) -> dict[str, object]:
    """Return definitions without a part."""
    return {name: value for name, value in well_formed().items() if name != key}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "definitions are a NoneType"),
        ([], "definitions are a list"),
        ("flags", "definitions are a str"),
        ({}, "flags are NoneType"),
        (well_formed(flags=None), "flags are NoneType"),
        (well_formed(flags={}), "flags are dict"),
        (well_formed(flags="x"), "flags are str"),
        (well_formed(flags=["x"]), "flag 0 is str"),
        (well_formed(flags=[{"key": "a"}, None]), "flag 1 is NoneType"),
        (well_formed(flags=[{"key": ["a"]}]), "the key of flag 0 is a list"),
        (well_formed(flags=[{"key": "a"}, {"key": dict[str, int]()}]), "the key of flag 1 is a dict"),
        (without("group_type_mapping"), "group_type_mapping is NoneType"),
        (well_formed(group_type_mapping=[]), "group_type_mapping is list"),
        (without("cohorts"), "cohorts is NoneType"),
        (well_formed(cohorts=""), "cohorts is str"),
        (well_formed(flagcache_malformed_flags=None), "not where they belong"),
        (well_formed(flagcache_malformed_flags={}), "not where they belong"),
        (well_formed(flagcache_malformed_flags={"2": {}}), "not where they belong"),
        (well_formed(flagcache_malformed_flags={"01": {}}), "not where they belong"),
        (well_formed(flagcache_malformed_flags={"0": "x"}), "flag 0 is str"),
        (well_formed(flagcache_malformed_flags={"0": {"key": []}}), "the key of flag 0 is a list"),
    ],
)
def test_what_is_not_shaped_as_definitions_is_refused(wrong: object, message: str) -> None:
    """Values without the shape of definitions are refused; the error says what is wrong."""
    with pytest.raises(EnvelopeError, match=message):
        VENDOR.check(wrong)


@pytest.mark.parametrize(
    "right",
    [
        well_formed(),
        well_formed(flags=[]),
        well_formed(minimal_flag_called_events=False, property_matching_version=2),
        well_formed(later={"anything": [None]}, property_matching_version="unknown"),
        cast("dict[str, object]", make_definitions()),
        VENDOR.empty(),
    ],
)
def test_definitions_are_handed_on_as_they_are(right: dict[str, object]) -> None:
    """The same object comes back, with everything that a newer SDK put in it, unchanged."""
    before = copy.deepcopy(right)
    assert VENDOR.check(right) is right
    assert right == before


@given(
    definitions=st.fixed_dictionaries(
        {},
        optional={
            "flags": json_values | flags | keyed,
            "group_type_mapping": json_values | st.builds(dict[str, object]),
            "cohorts": json_values | st.builds(dict[str, object]),
            "property_matching_version": json_values,
        },
    )
    | json_values
)
def test_whatever_passes_is_safe_for_the_sdk(definitions: object) -> None:
    """Any JSON value is refused by our own error, or has dicts with hashable keys, and two dicts.

    What stores carry of it becomes the same again, and passes also where each flag must have a string for a key.
    """
    try:
        passed = VENDOR.check(definitions)
    except EnvelopeError:
        return
    assert isinstance(passed["group_type_mapping"], dict)
    assert isinstance(passed["cohorts"], dict)
    passed_flags = cast("list[dict[str, object]]", passed["flags"])
    assert isinstance(passed_flags, list)
    for flag in passed_flags:
        assert isinstance(flag, dict)
        hash(flag.get("key"))
    assert isinstance(VENDOR.project(passed), str)
    assert str(VENDOR.difference(passed, VENDOR.empty()))
    carried = VENDOR.shared(passed)
    assert all(isinstance(flag["key"], str) for flag in cast("list[dict[str, object]]", carried["flags"]))
    assert VENDOR.check(carried) == passed
    assert (carried is passed) == (not VENDOR.malformed(passed))


@given(
    flags=flags, group_types=st.dictionaries(st.text(), json_values), cohorts=st.dictionaries(st.text(), json_values)
)
def test_all_that_is_well_formed_passes(
    flags: list[dict[str, object]], group_types: dict[str, object], cohorts: dict[str, object]
) -> None:
    """Nothing is refused because of the content of a flag, a group type or a cohort, which the SDK judges."""
    definitions: Definitions = {"flags": flags, "group_type_mapping": group_types, "cohorts": cohorts}
    assert VENDOR.check(definitions) is definitions


@pytest.mark.parametrize(
    ("body", "malformed"),
    [
        (well_formed(), ()),
        (well_formed(cohorts=None, group_type_mapping=None), ()),
        (well_formed(flags=[{"active": True}]), ("flag 0 has no key",)),
        (well_formed(flags=[{"key": "a"}, {"key": None, "id": 17}]), ("the flag with id 17 has no key",)),
        (well_formed(flags=[{"key": 7}]), ("flag 0 has the key 7, which is no string",)),
        (well_formed(cohorts=[]), ("cohorts is a list",)),
        (well_formed(cohorts="x", group_type_mapping=[1]), ("group_type_mapping is a list", "cohorts is a str")),
    ],
)
def test_what_the_sdk_evaluates_around_is_taken_and_named(body: dict[str, object], malformed: tuple[str, ...]) -> None:
    """Flags stay as they are, also those without a key; what is no mapping counts as an empty one."""
    taken = VENDOR.of_response(body)
    assert VENDOR.malformed(body) == malformed
    assert taken["flags"] is body["flags"]
    for key in ("group_type_mapping", "cohorts"):
        assert taken[key] == (body[key] if isinstance(body[key], dict) else {})


def test_stores_carry_malformed_flags_beside_the_others() -> None:
    """Older versions refuse them among the flags, so stores keep them separately; each comes back in its place."""
    flags = [{"key": 7}, {"key": "a"}, {"active": True}, {"key": "b"}]
    carried = VENDOR.shared(well_formed(flags=flags))
    assert carried["flags"] == [{"key": "a"}, {"key": "b"}]
    assert VENDOR.check(carried) == well_formed(flags=flags)


def test_no_flags_are_an_answer() -> None:
    """Definitions without flags are truthy, so that the SDK accepts them, and well-formed."""
    assert VENDOR.empty()
    assert VENDOR.check(VENDOR.empty()) == {"flags": [], "group_type_mapping": {}, "cohorts": {}}


def test_each_empty_answer_is_a_new_one() -> None:
    """Each is a new object, because the SDK keeps it, and another client's must not change with it."""
    assert VENDOR.empty() is not VENDOR.empty()


@pytest.mark.parametrize(
    ("flags", "project"),
    [
        ([], ""),
        ([{"key": "a"}], ""),
        ([{"key": "a", "team_id": 7}], "team=7"),
        ([{"key": "a"}, {"key": "b", "team_id": 8}], "team=8"),
        ([{"key": "a", "team_id": "7"}], ""),
        ([{"key": "a", "team_id": None}, {"key": "b", "team_id": 9}], "team=9"),
        ([{"key": "a", "team_id": True}], ""),
    ],
)
def test_the_project_is_the_flags_team(flags: list[object], project: str) -> None:
    """The project is the first team number of a flag; empty if none has one."""
    assert VENDOR.project({"flags": flags, "group_type_mapping": {}, "cohorts": {}}) == project


def test_the_writer_is_the_installed_sdk() -> None:
    """The writer has the SDK's name and version."""
    assert VENDOR.writer == f"posthog-python/{metadata.version('posthog')}"


class _Recorder:
    """The smallest provider, which records what it gets."""

    def __init__(self) -> None:
        self.received: list[dict[str, object]] = []

    def should_fetch_flag_definitions(self) -> bool:
        return True

    def get_flag_definitions(self) -> None:
        return None

    def on_flag_definitions_received(self, data: dict[str, object]) -> None:
        self.received.append(data)

    def shutdown(self) -> None:
        pass


def test_the_keys_are_those_that_the_installed_sdk_hands_over() -> None:
    """The SDK passes on only these keys of what PostHog serves."""
    recorder = _Recorder()
    with PostHogStandIn({**make_definitions(1), "of_the_future": 1}) as posthog:
        provider = cast("FlagDefinitionCacheProvider", recorder)
        client = Posthog("phc_x", secret_key="phs_x", host=posthog.url, flag_definition_cache_provider=provider)
        client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        client.shutdown()
    assert [received.keys() for received in recorder.received] == [PostHogVendor().keys]
