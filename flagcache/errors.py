"""Every exception that flagcache raises, under one root.

A failure has another type than a miss: a store that cannot be asked raises `StoreError`; a store that holds nothing
answers so.
"""

from __future__ import annotations

__all__ = [
    "NO_PLACE",
    "ConfigurationError",
    "EnvelopeError",
    "FlagcacheError",
    "MissingExtraError",
    "StoreError",
    "UnknownKeyError",
    "UnreadableHereError",
]


NO_PLACE = "no_place"
"""The kind of a `StoreError` of a store that this machine has no place for, and that was not asked for."""


class FlagcacheError(Exception):
    """Anything that goes wrong in flagcache."""


class ConfigurationError(FlagcacheError, ValueError):
    """An argument, a URL or an environment variable that cannot be right; the message names the value and the range."""


class MissingExtraError(FlagcacheError, ImportError):
    """A feature was asked for whose optional dependency is not installed; the message holds the `pip install` line."""


class StoreError(FlagcacheError):
    """The store could not be asked, or did not answer as a store does: refused, timed out, read-only, out of memory.

    Args:
        what: happened, for people.
        kind: what it is in one word: `unreachable`, `timeout`, `password`, `rights`, `read_only`, `full`, `loading`,
            `no_place`, or `failed` for all else.
        address: the store's, which begins the text; `what` does not name it.
    """

    def __init__(self, what: str = "", kind: str = "failed", address: str = "") -> None:
        super().__init__(f"{address}: {what}" if address else what)
        self.what = what
        self.kind = kind


class EnvelopeError(FlagcacheError):
    """Bytes that are no well-formed envelope: garbage, truncated, too large, another format, or not definitions."""


class UnreadableHereError(EnvelopeError):
    """An envelope that may be well-formed, and for which this process's limit, memory or stack does not suffice.

    Args:
        what: happened, for people.
        passing: it may be read a moment later.
    """

    def __init__(self, what: str, *, passing: bool = False) -> None:
        super().__init__(what)
        self.passing = passing


class UnknownKeyError(EnvelopeError):
    """An envelope that was protected with another key than those of this process, or with none.

    Args:
        key_id: what stands where the key's id should.
    """

    def __init__(self, key_id: bytes) -> None:
        super().__init__("it was not protected with a key that this process has")
        self.key_id = key_id
