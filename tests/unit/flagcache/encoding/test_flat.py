"""Documents laid flat, and back, without recursion."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagcache.encoding.flat import flatten, listed, unflatten
from flagcache.errors import EnvelopeError

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
DOCUMENTS = st.dictionaries(
    st.text(max_size=3), st.recursive(LEAVES, lambda any_: st.lists(any_) | st.dictionaries(st.text(max_size=3), any_))
)


@given(DOCUMENTS)
def test_a_document_comes_back(document: dict[str, object]) -> None:
    """A document of any form comes back, and flattening doesn't change it."""
    before = repr(document)
    assert unflatten(flatten(document)) == document
    assert repr(document) == before


def test_the_containers_follow_one_another() -> None:
    """Each child that is a container is an empty list in its place, and comes later."""
    assert flatten({"a": [1, {}], "b": []}) == [{"a": [], "b": []}, [1, []], [], {}]
    assert flatten({"b": [2], "a": [1]}, ordered=True) == [{"a": [], "b": []}, [1], [2]]


def test_depth_costs_no_stack() -> None:
    """A document that is deeper than any recursion comes back."""
    document: dict[str, object] = {}
    for _ in range(50_000):
        document = {"in": document}
    found = cast("dict[str, object]", unflatten(flatten(document)))
    depth = 0
    while found:
        found, depth = cast("dict[str, object]", found["in"]), depth + 1
    assert depth == 50_000


REFUSED: list[object] = [
    None,
    [],
    {},
    [1],
    ["text"],
    [[], []],  # a container without a place
    [[[]]],  # a place without its container
    [[[1]], []],  # a place that isn't empty
    [{"a": []}, {"b": []}],
    [{"a": []}, 7],
]


@pytest.mark.parametrize("nodes", REFUSED)
def test_what_is_no_flat_document_is_refused(nodes: object) -> None:
    """Anything may stand in a payload."""
    with pytest.raises(EnvelopeError):
        unflatten(nodes)


def test_only_a_list_with_items_is_one() -> None:
    """A subclass, which no parser makes, is none either."""

    class Items(list[object]):
        """Another kind of list."""

    assert listed([0]) == [0]
    others: list[object] = [[], (1,), Items([1])]
    for value in others:
        with pytest.raises(EnvelopeError):
            listed(value)
