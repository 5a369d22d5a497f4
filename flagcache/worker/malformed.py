"""Malformed parts of definitions, which the SDK ignores: the definitions are shared, and one event reports them."""

from __future__ import annotations

import logging

from flagcache.events import Event, Events

__all__ = ["DefinitionsMalformed", "MalformedDefinitions"]

_NAMED = 10
"""How many malformed parts a log line names."""


class DefinitionsMalformed(Event):
    """Parts of the vendor's definitions are malformed; the SDK ignores these and uses the others."""

    malformed: tuple[str, ...]
    """Each malformed part, and what is wrong with it."""
    _level = logging.WARNING

    def __str__(self) -> str:
        named, more = self.malformed[:_NAMED], len(self.malformed) - _NAMED
        listed = f"{'; '.join(named)}{f'; and {more} more' if more > 0 else ''}"
        return (
            f"malformed definitions: {listed}. Clients evaluate around them as the SDK alone does, and use all others;"
            " correct or delete them at the vendor"
        )


class MalformedDefinitions:
    """Reports malformed parts of what one process fetches, once as long as they stay the same.

    Args:
        namespace: of its fleet.
        events: receive it.
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
