"""How envelopes are protected in Redis and on disk: plain, signed, sealed, or both.

What happens if a process without a key can write to the store and tries to store

| what it stores                              | signed, sealed or both                              |
|---------------------------------------------|-----------------------------------------------------|
| definitions of its own                      | refused                                             |
| the payload of another version or namespace | refused: a payload is bound to both                 |
| another entity tag, project or writer       | refused: bound to version and namespace             |
| a replay of an old envelope of the fleet    | replaces nothing newer; is as old as its stamp says |
| other times of a confirmation, or notes     | not believed: only signed ones count                |
| another epoch                               | undone by those that hold definitions               |
| other grants, another lease                 | delays fetches, or causes up to four an interval    |

A swapped entity tag would be the worst: the vendor would answer "unchanged" for definitions that no process holds.
A confirmation moves `as_of` and `confirmed_at` without the payload, so these, the epoch and notes have stamps of their
own (`flagcache.encoding.stamps`). Grants and the lease are the store's own, changed by its verbs: they decide who
fetches and when, never what is used. `changed_at` is only shown.

Protected bytes are bound to `bound_to`, which is not part of them and must be passed again to open them. From each of
the user's keys we derive one for each purpose, so the same key may serve for both. Eight more bytes, which reveal
nothing of the key, say which one was used.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from flagcache.encoding.keys import ID_SIZE, Key, checked_keys, derive, stamp_keys_of
from flagcache.encoding.stamps import StampKey
from flagcache.errors import EnvelopeError, MissingExtraError, UnknownKeyError
from flagcache.runtime.values import Value
from flagcache.settings import KeyMaterial

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["PLAIN", "KeyMaterial", "Plain", "Protection", "Sealed", "SealedAndSigned", "Signed", "protection_of"]

_T = TypeVar("_T")

_TAG, _NONCE = 32, 12  # bytes


class Protection(Protocol):
    """The protection of bytes before a store gets them, and its reversal."""

    @property
    def name(self) -> str:
        """Part of every key in a store, so that workers that cannot read each other's envelopes never share a lease."""
        ...

    @property
    def stamp_keys(self) -> Sequence[StampKey]:
        """The keys that sign order, ages and notes (`flagcache.encoding.stamps`); none without a key."""
        ...

    def protect(self, payload: bytes, bound_to: bytes) -> bytes:
        """Return the protected form of a payload, which may be stored.

        Raises:
            EnvelopeError: it is too large.
        """
        ...

    def open(self, protected: bytes, bound_to: bytes) -> bytes:
        """Return the payload.

        Raises:
            UnknownKeyError: it was not protected with a key of this process.
            EnvelopeError: it was altered, or is bound to something else.
        """
        ...

    def is_current(self, protected: bytes) -> bool:
        """Whether bytes that open were protected with the first key; otherwise they should be protected again."""
        ...

    def names(self, digest: str) -> tuple[str, ...]:
        """The names of a content of this digest in a store, as 32 hexadecimal digits; its present one first."""
        ...


def protection_of(signing_key: KeyMaterial | None, encryption_key: KeyMaterial | None) -> Protection:
    """Return the protection that these keys are for.

    Raises:
        ConfigurationError: a key is invalid. An empty one is refused too, because an unset variable must not switch the
            protection off.
        MissingExtraError: encryption was asked for and `cryptography` is not installed.
    """
    signed = None if signing_key is None else Signed(signing_key)
    sealed = None if encryption_key is None else Sealed(encryption_key)
    if signed and sealed:
        return SealedAndSigned(sealed, signed)
    return signed or sealed or PLAIN


class Plain:
    """No protection: for a store to which only the fleet can write."""

    name = "plain"
    stamp_keys: Sequence[StampKey] = ()

    def protect(self, payload: bytes, bound_to: bytes) -> bytes:
        """Return the payload as it is."""
        return payload

    def open(self, protected: bytes, bound_to: bytes) -> bytes:
        """Return the payload as it is."""
        return protected

    def is_current(self, protected: bytes) -> bool:
        """Return True, because there is no key."""
        return True

    def names(self, digest: str) -> tuple[str, ...]:
        """Return the digest."""
        return (digest,)


PLAIN = Plain()


class Signed:
    """HMAC-SHA256: key's id (8 bytes), tag (32 bytes), payload.

    Args:
        keys: the first signs, all verify.
    """

    name = "signed"

    def __init__(self, keys: KeyMaterial) -> None:
        checked = checked_keys("signing_key", keys)
        self._keys = [derive(key, b"signing") for key in checked]
        self.stamp_keys: Sequence[StampKey] = stamp_keys_of(checked)

    def protect(self, payload: bytes, bound_to: bytes) -> bytes:
        """Sign the payload."""
        key = self._keys[0]
        return key.id + _tag(key, payload, bound_to) + payload

    def open(self, protected: bytes, bound_to: bytes) -> bytes:
        """Return the payload if its signature is right."""
        key = _chosen({key.id: key for key in self._keys}, protected)
        tag, payload = protected[ID_SIZE : ID_SIZE + _TAG], protected[ID_SIZE + _TAG :]
        if not hmac.compare_digest(tag, _tag(key, payload, bound_to)):
            raise EnvelopeError("its signature is wrong: it was altered, or belongs to something else")
        return payload

    def is_current(self, protected: bytes) -> bool:
        """Whether the first key signed it."""
        return protected[:ID_SIZE] == self._keys[0].id

    def names(self, digest: str) -> tuple[str, ...]:
        """Return the digest, because signed definitions can be read without a key."""
        return (digest,)


class Sealed:
    """AES-256-GCM, which also refuses altered bytes: key's id (8 bytes), nonce (12 bytes), the rest.

    Args:
        keys: the first encrypts, all decrypt.
    """

    name = "sealed"

    def __init__(self, keys: KeyMaterial) -> None:
        checked = checked_keys("encryption_key", keys)
        derived = [derive(key, b"encryption") for key in checked]
        self._naming = [derive(key, b"naming").secret for key in checked]
        self.stamp_keys: Sequence[StampKey] = stamp_keys_of(checked)
        aesgcm = _aesgcm()
        self._first = derived[0].id
        self._ciphers = {key.id: aesgcm(key.secret) for key in reversed(derived)}

    def protect(self, payload: bytes, bound_to: bytes) -> bytes:
        """Encrypt the payload."""
        nonce = os.urandom(_NONCE)  # from the system: a generator in this process would be shared with forked children
        try:
            return self._first + nonce + self._ciphers[self._first].encrypt(nonce, payload, bound_to)
        except OverflowError:
            raise EnvelopeError("it is larger than the 2 GiB that can be encrypted") from None

    def open(self, protected: bytes, bound_to: bytes) -> bytes:
        """Decrypt the payload."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

        cipher = _chosen(self._ciphers, protected)
        nonce, sealed = protected[ID_SIZE : ID_SIZE + _NONCE], protected[ID_SIZE + _NONCE :]
        try:
            return cipher.decrypt(nonce, sealed, bound_to)
        except (InvalidTag, OverflowError, ValueError):  # the last two: too short or too long
            raise EnvelopeError("it cannot be decrypted: it was altered, or belongs to something else") from None

    def is_current(self, protected: bytes) -> bool:
        """Whether the first key encrypted it."""
        return protected[:ID_SIZE] == self._first

    def names(self, digest: str) -> tuple[str, ...]:
        """Return one keyed digest per key, so that a guess can't be tested without the key, and 0.1's plain digest."""
        return *(hmac.digest(secret, digest.encode(), "sha256").hex()[: len(digest)] for secret in self._naming), digest


class SealedAndSigned(Value):
    """Encrypted, then signed, for users who give the two keys to different people."""

    sealed: Sealed
    signed: Signed
    name = "sealed-signed"

    @property
    def stamp_keys(self) -> Sequence[StampKey]:
        """The signing key's, because the encryption key alone must not sign."""
        return self.signed.stamp_keys

    def protect(self, payload: bytes, bound_to: bytes) -> bytes:
        """Encrypt, then sign."""
        return self.signed.protect(self.sealed.protect(payload, bound_to), bound_to)

    def open(self, protected: bytes, bound_to: bytes) -> bytes:
        """Verify, then decrypt."""
        return self.sealed.open(self.signed.open(protected, bound_to), bound_to)

    def is_current(self, protected: bytes) -> bool:
        """Whether the first key of each kind was used."""
        return self.signed.is_current(protected) and self.sealed.is_current(protected[ID_SIZE + _TAG :])

    def names(self, digest: str) -> tuple[str, ...]:
        """Return the names under the encryption keys."""
        return self.sealed.names(digest)


def _tag(key: Key, payload: bytes, bound_to: bytes) -> bytes:
    signature = hmac.new(key.secret, digestmod=hashlib.sha256)
    signature.update(len(bound_to).to_bytes(8, "big") + bound_to)  # the length: no byte can move to the other part
    signature.update(payload)
    return signature.digest()


def _chosen(keys: Mapping[bytes, _T], protected: bytes) -> _T:
    key = keys.get(protected[:ID_SIZE])
    if key is None:
        raise UnknownKeyError(protected[:ID_SIZE])
    return key


def _aesgcm() -> type[AESGCM]:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError('encryption_key needs an extra: pip install "flagcache[encryption]"') from exc
    return AESGCM
