"""Malformed parts of definitions are named once in a row."""

from __future__ import annotations

from flagcache.events import Event, Events
from flagcache.worker.malformed import DefinitionsMalformed, MalformedDefinitions


def test_the_same_parts_are_named_once_in_a_row() -> None:
    """Other parts are named at once, and the same ones again after valid definitions."""
    seen: list[Event] = []
    events = Events()
    events.subscribe(seen.append)
    malformed = MalformedDefinitions("shop", events)
    for parts in (("a",), ("a",), ("a", "b"), (), (), ("a",)):
        malformed.fetched(parts)
    assert seen == [DefinitionsMalformed("shop", parts) for parts in (("a",), ("a", "b"), ("a",))]


def test_a_line_names_ten_parts() -> None:
    """And says how many more there are."""
    assert "malformed definitions: a; b. Clients" in str(DefinitionsMalformed("shop", ("a", "b")))
    assert "; 9; and 2 more. Clients" in str(DefinitionsMalformed("shop", tuple(map(str, range(12)))))
