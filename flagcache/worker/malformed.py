"""Malformed parts of definitions, which the SDK ignores: the definitions are shared, and one event reports them."""

from __future__ import annotations

from flagcache.events import Events
from flagcache.failures import DefinitionsMalformed

__all__ = ["DefinitionsMalformed", "MalformedDefinitions"]


class MalformedDefinitions:
    """Reports malformed parts of what one process fetches: once, and again if they change.

    Args:
        namespace: of its fleet.
        events: receives the event.
    """

    def __init__(self, namespace: str, events: Events) -> None:
        self._namespace = namespace
        self._events = events
        self._reported: tuple[str, ...] = ()

    def fetched(self, malformed: tuple[str, ...]) -> None:
        """Report the malformed parts of definitions that the vendor has just sent, if any."""
        before, self._reported = self._reported, malformed
        if malformed and malformed != before:
            self._events.emit(DefinitionsMalformed(self._namespace, malformed))
