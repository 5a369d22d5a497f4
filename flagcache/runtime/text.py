"""Text from outside that people see, in a log line, an event, a status or on a terminal."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Return it with `?` for what doesn't print: line feeds, escapes, marks of direction, lone surrogates."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
