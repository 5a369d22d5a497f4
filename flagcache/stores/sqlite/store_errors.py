"""Classifies errors of SQLite, or of the system below it: kind, words, and whether the file is broken."""

from __future__ import annotations

import sqlite3

__all__ = ["is_broken", "kind_of", "words_of"]

_PARTS_MISSING = ("no such table", "no such column", "has no column named")

_KINDS = {
    "is full": "full",
    "No space left": "full",
    "readonly": "read_only",
    "Read-only": "read_only",
    "locked": "timeout",
    "unable to open": "unreachable",
    "Permission denied": "rights",
}
"""Kinds by the words of an error, of SQLite and of the system."""


def words_of(error: Exception) -> str:
    """Return the system's message, without the path, which the address has."""
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)


def kind_of(error: Exception) -> str:
    """Return the kind of a `StoreError`."""
    return next((kind for words, kind in _KINDS.items() if words in str(error)), "failed")


def is_broken(error: sqlite3.Error) -> bool:
    """Whether the file is no sound database (which has no own class), or lacks what we made in it."""
    return type(error) is sqlite3.DatabaseError or any(words in str(error) for words in _PARTS_MISSING)
