"""Stamps: signed times, epochs and notes. A process with a key believes no unsigned ones.

A confirmation moves `as_of` and `confirmed_at` without the payload, and a note has no payload at all. So each has a
*stamp* of its own: the numbers, and a tag that binds them to their purpose, to the namespace, and to the version if
they are a version's. A stamp contains its numbers, so the unsigned ones beside it in a store prove and disprove
nothing. Invariant: a stamp with any bit turned, or of another purpose, namespace or version, has no numbers.

Layout, before base64: the key's id (8 bytes), three numbers (7 bytes each), the tag (HMAC-SHA256, cut to 16 bytes).
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import NamedTuple

from flagcache.runtime.values import SecretValue

__all__ = ["LENGTH", "SignedBackoff", "SignedTimes", "StampKey", "Stamps"]

_ID, _NUMBER, _TAG = 8, 7, 16  # bytes
_SIZE = _ID + 3 * _NUMBER + _TAG
LENGTH = _SIZE * 4 // 3
"""Characters of a stamp. Its last one has no spare bits."""
_LIMIT = 1 << 53


class StampKey(SecretValue):
    """One key, derived for stamps alone."""

    id: bytes
    secret: bytes


class SignedTimes(NamedTuple):
    """When a version was last confirmed, as its publisher signed it; all as in `Meta`."""

    epoch: int
    as_of: int
    confirmed_at: int


class SignedBackoff(NamedTuple):
    """Why a fetch failed for all workers, as its process signed it."""

    status: int
    at: int
    """The store's clock when that fetch was granted."""
    length: int
    """Milliseconds after the failure for which no worker fetches."""


class Stamps:
    """Makes and reads the stamps of one namespace.

    Args:
        bound_to: protection and namespace, so that a stamp of another namespace proves nothing here.
        keys: the first signs, all verify; none if the fleet has no key.
    """

    def __init__(self, bound_to: bytes, keys: Sequence[StampKey]) -> None:
        self._bound_to = bound_to
        self._keys = tuple(keys)

    @property
    def signs(self) -> bool:
        """Whether there is a key. Without one every stamp is empty, and none is required."""
        return bool(self._keys)

    def of_times(self, version: str, times: SignedTimes) -> str:
        """Sign the times of a version; empty without a key."""
        return self._make(b"order", version, times)

    def times(self, version: str, stamp: str) -> SignedTimes | None:
        """Return the times that were signed for this version; None if none were."""
        numbers = self._read(b"order", version, stamp)
        return None if numbers is None else SignedTimes(*numbers)

    def of_backoff(self, note: SignedBackoff) -> str:
        """Sign a note; empty without a key."""
        return self._make(b"note", "", note)

    def backoff(self, stamp: str) -> SignedBackoff | None:
        """Return the signed note; None if it isn't valid."""
        numbers = self._read(b"note", "", stamp)
        return None if numbers is None else SignedBackoff(*numbers)

    def of_epoch(self, epoch: int) -> str:
        """Sign an epoch to which people raised the store; empty without a key."""
        return self._make(b"epoch", "", (epoch, 0, 0))

    def proves_epoch(self, epoch: int, stamp: str) -> bool:
        """Whether this epoch was signed."""
        return self._read(b"epoch", "", stamp) == (epoch, 0, 0)

    def _make(self, purpose: bytes, version: str, numbers: tuple[int, int, int]) -> str:
        if not self._keys or not all(0 <= number < _LIMIT for number in numbers):
            return ""
        key, packed = self._keys[0], b"".join(number.to_bytes(_NUMBER, "big") for number in numbers)
        return b64encode(key.id + packed + self._tag(key, purpose, version, packed), b"-_").decode()

    def _read(self, purpose: bytes, version: str, stamp: str) -> tuple[int, int, int] | None:
        if len(stamp) != LENGTH:
            return None
        try:
            raw = b64decode(stamp.encode("ascii"), b"-_", validate=True)
        except (UnicodeError, binascii.Error):
            return None
        packed, tag = raw[_ID:-_TAG], raw[-_TAG:]
        key = next((key for key in self._keys if key.id == raw[:_ID]), None)
        if key is None or len(raw) != _SIZE or not hmac.compare_digest(tag, self._tag(key, purpose, version, packed)):
            return None
        first, second, third = (
            int.from_bytes(packed[at : at + _NUMBER], "big") for at in range(0, 3 * _NUMBER, _NUMBER)
        )
        return first, second, third

    def _tag(self, key: StampKey, purpose: bytes, version: str, packed: bytes) -> bytes:
        words = (purpose, self._bound_to, version.encode("utf-8", "surrogatepass"), packed)
        message = b"".join(len(word).to_bytes(4, "big") + word for word in words)
        return hmac.digest(key.secret, message, "sha256")[:_TAG]
