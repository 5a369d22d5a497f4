"""All exceptions that flagcache raises, with one base class.

A failure is not a miss: a store that can't be reached raises `StoreError`; an empty store returns an empty reply.
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
"""Kind of a `StoreError`: this machine has no place for a store that the user did not ask for."""


class FlagcacheError(Exception):
    """Base class of all exceptions of flagcache."""


class ConfigurationError(FlagcacheError, ValueError):
    """An invalid argument, URL or environment variable; the message names the value and the range."""


class MissingExtraError(FlagcacheError, ImportError):
    """A feature needs an optional dependency that is not installed; the message has the `pip install` line."""


class StoreError(FlagcacheError):
    """The store can't be reached, or fails: it refuses, times out, is read-only, is out of memory.

    Args:
        what: what happened.
        kind: the reason in one word: `unreachable`, `timeout`, `password`, `rights`, `read_only`, `full`, `loading`,
            `no_place`, or `failed` for everything else.
        address: the store's address, with which the text begins; `what` doesn't contain it.
    """

    def __init__(self, what: str = "", kind: str = "failed", address: str = "") -> None:
        super().__init__(f"{address}: {what}" if address else what)
        self.what = what
        self.kind = kind


class EnvelopeError(FlagcacheError):
    """Bytes that are not a valid envelope: garbage, truncated, too large, another format, or not definitions."""


class UnreadableHereError(EnvelopeError):
    """An envelope that may be valid, but this process's limit, memory or stack is too small for it.

    Args:
        what: what happened.
        passing: a later attempt may succeed.
    """

    def __init__(self, what: str, *, passing: bool = False) -> None:
        super().__init__(what)
        self.passing = passing


class UnknownKeyError(EnvelopeError):
    """An envelope that was protected with a key that this process lacks, or with none.

    Args:
        key_id: the bytes in the place of the key's id.
    """

    def __init__(self, key_id: bytes) -> None:
        super().__init__("it was not protected with a key that this process has")
        self.key_id = key_id
