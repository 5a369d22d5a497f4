"""Which texts in a store a worker may have written. Pure. A longer one, or one with a control character, is absent.

Lengths are bytes of UTF-8. What workers write is shorter: an entity tag has at most 256 characters, and 444 if it is
protected; an identity has a host's name, a pid and a token.
"""

from __future__ import annotations

import string

__all__ = [
    "LONGEST_STAMP",
    "LONGEST_TAG",
    "LONGEST_TEXT",
    "LONGEST_VERSION",
    "is_stamp",
    "is_tag",
    "is_text",
    "is_version",
]

LONGEST_VERSION, LONGEST_TAG, LONGEST_TEXT, LONGEST_STAMP = 64, 1024, 512, 100

_NAMING = frozenset(string.ascii_letters + string.digits + "._-")
_STAMP = frozenset(map(chr, range(32, 127))) - {":"}
_CONTROLS = frozenset(map(chr, [*range(32), 127]))


def is_version(text: str) -> bool:
    """Whether this can be a version: letters, digits, dots, dashes. Workers accept only digests."""
    return 0 < len(text) <= LONGEST_VERSION and _NAMING.issuperset(text)


def is_tag(text: str) -> bool:
    """Whether this can be an entity tag, protected or not."""
    return _is_sound(text, LONGEST_TAG)


def is_stamp(text: str) -> bool:
    """Whether this can be a stamp: ASCII without colons, which separate the arguments of a poll."""
    return len(text) <= LONGEST_STAMP and _STAMP.issuperset(text)


def is_text(text: str) -> bool:
    """Whether this can be an identity, the name of a library or the name of a project."""
    return _is_sound(text, LONGEST_TEXT)


def _is_sound(text: str, longest: int) -> bool:
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return size <= longest and _CONTROLS.isdisjoint(text)
