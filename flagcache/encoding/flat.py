"""Flattens documents of any depth, and back, so that writing and reading them needs no more stack than a flat list.

The containers of a document follow one another in the order of their places, and each child that is a container is
replaced by `[]`: `{"a": [1, {}], "b": []}` is `[{"a": [], "b": []}, [1, []], [], {}]`.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from operator import itemgetter
from typing import cast

from flagcache.errors import EnvelopeError

__all__ = ["CONTAINERS", "flatten", "listed", "unflatten"]

CONTAINERS: frozenset[type] = frozenset({dict, list})


def flatten(document: dict[str, object], *, ordered: bool = False) -> list[object]:
    """Flatten a document; `ordered` sorts the keys."""
    nodes: list[object] = [document]
    flat: list[object] = []
    for node in nodes:  # grows during the loop
        children = {key: child for key, child in _places(node, ordered=ordered) if type(child) in CONTAINERS}
        nodes += children.values()
        flat.append(copy(node))
        for key in children:
            _put(flat[-1], key, [])
    return flat


def unflatten(nodes: object) -> object:
    """Undo `flatten`, in place.

    Raises:
        EnvelopeError: these nodes are no flattened document.
    """
    containers = listed(nodes)
    placed = 0
    for index, node in enumerate(containers):
        if index > placed:  # also keeps a container from ending up inside itself
            raise EnvelopeError("the payload holds a container that has no place")
        for key, child in _places(node):
            if type(child) in CONTAINERS:
                if child != [] or placed + 1 == len(containers):
                    raise EnvelopeError("the payload has a place without its container")
                placed += 1
                _put(node, key, containers[placed])
    return containers[0]


def _places(node: object, *, ordered: bool = False) -> Iterable[tuple[object, object]]:
    """Return a container's items by key or index; `ordered` sorts the keys."""
    if type(node) is dict:
        members = cast("dict[str, object]", node).items()
        return sorted(members, key=itemgetter(0)) if ordered else members
    if type(node) is list:
        return enumerate(cast("list[object]", node))
    raise EnvelopeError("the payload holds something else where a container should be")


def listed(value: object) -> list[object]:
    """Return the value, if it is a list that is not empty.

    Raises:
        EnvelopeError: it is something else.
    """
    if type(value) is not list or not value:
        raise EnvelopeError("the payload holds something else where a list should be")
    return cast("list[object]", value)


def _put(node: object, key: object, value: object) -> None:
    cast("dict[object, object]", node)[key] = value  # or a list, whose keys are its indexes
