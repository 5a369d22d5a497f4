"""How deep a document is, how long its longest list, how much it holds, and whether it is JSON."""

from __future__ import annotations

import pytest

from flagcache.encoding.shape import Shape, measure
from flagcache.errors import EnvelopeError


@pytest.mark.parametrize(
    ("document", "shape"),
    [
        ({}, Shape(1, 0, 1, 0)),
        ({"a": 1, "b": None, "c": "x", "d": True, "e": 1.5}, Shape(1, 0, 1, 5)),
        ({"a": []}, Shape(2, 0, 2, 1)),
        ({"a": [1, 2, 3], "b": {"c": [1, 2, 3, 4]}}, Shape(3, 4, 4, 10)),
        ({"a": [[[1, 2]]]}, Shape(4, 2, 4, 5)),
    ],
)
def test_a_document_is_measured(document: dict[str, object], shape: Shape) -> None:
    """Levels of containers, items of the longest list at any level, and how many containers and values there are."""
    assert measure(document) == shape


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"a": b""}, "bytes"),
        ({"a": [{"b": (1, 2)}]}, "tuple"),
        ({"a": {1: 2}}, "int"),
        ({"a": {"b": {1, 2}}}, "set"),
    ],
)
def test_what_json_cannot_hold_is_named(document: dict[str, object], kind: str) -> None:
    """By its type, wherever in the document it is; keys count too."""
    with pytest.raises(EnvelopeError, match=f"not JSON: {kind}"):
        measure(document)


def test_a_document_that_holds_itself_ends() -> None:
    """No parser makes one, but user code may."""
    document: dict[str, object] = {}
    document["in"] = document
    with pytest.raises(EnvelopeError, match="endless nesting"):
        measure(document)
