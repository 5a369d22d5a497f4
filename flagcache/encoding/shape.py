"""Measures a document: its depth, its longest list, how much it holds, and whether it is JSON."""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple, cast

from flagcache.encoding.flat import CONTAINERS
from flagcache.errors import EnvelopeError

__all__ = ["Shape", "measure"]

_DEEPEST = 100_000  # deeper than any parser goes: such definitions contain themselves

_KINDS: frozenset[type] = CONTAINERS | {str, int, float, bool, type(None)}


class Shape(NamedTuple):
    """The measures that decide how a document can be encoded, and whether a reader accepts it."""

    depth: int
    """Levels of containers."""
    longest: int
    """Items of the longest list."""
    containers: int
    """Dicts and lists, the document itself included."""
    values: int
    """Items of all lists and values of all dicts, containers included."""


def measure(document: dict[str, object]) -> Shape:
    """Measure a whole document, level by level.

    Raises:
        EnvelopeError: it holds something that `json.loads` could not have made, or contains itself.
    """
    dicts: list[dict[str, object]] = [document]
    lists: list[list[object]] = []
    depth = longest = containers = held = 0
    while dicts or lists:
        depth += 1
        containers += len(dicts) + len(lists)
        longest = max(longest, max(map(len, lists), default=0))
        values = [*chain.from_iterable(node.values() for node in dicts), *chain.from_iterable(lists)]
        held += len(values)
        strange = set(map(type, values)) - _KINDS | set(map(type, chain.from_iterable(dicts))) - {str}
        if strange or depth > _DEEPEST:
            raise EnvelopeError(
                f"not JSON: {', '.join(sorted(kind.__name__ for kind in strange)) or 'endless nesting'}"
            )
        dicts = [cast("dict[str, object]", value) for value in values if type(value) is dict]
        lists = [cast("list[object]", value) for value in values if type(value) is list]
    return Shape(depth, longest, containers, held)
