"""The user's keys, and the keys that are derived from them, each for one purpose."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import cast

from flagcache.encoding.stamps import StampKey
from flagcache.errors import ConfigurationError
from flagcache.runtime.values import SecretValue

__all__ = ["ID_SIZE", "Key", "checked_keys", "derive", "stamp_keys_of"]

ID_SIZE = 8
"""Bytes of a key's identifier, from which the key can't be derived."""

_SHORTEST = 16
"""The fewest bytes of a key: 128 bits, if they are random."""


def checked_keys(name: str, material: object) -> list[bytes]:
    """Return a user's keys as bytes. No message may show a key, not even an invalid one.

    Args:
        name: of the setting.
        material: its value.

    Raises:
        ConfigurationError: it is not one key or several.
    """
    if isinstance(material, (str, bytes)):
        return [_bytes_of(name, material)]
    if not isinstance(material, Sequence):
        raise ConfigurationError(f"{name} must be a string, bytes, or several in a list, not {type(material).__name__}")
    keys = cast("Sequence[object]", material)
    if not keys:
        raise ConfigurationError(f"{name} must hold at least one key; leave it out for no protection")
    return [_bytes_of(f"{name}[{index}]", key) for index, key in enumerate(keys)]


def _bytes_of(name: str, key: object) -> bytes:
    if isinstance(key, str):
        key = key.encode("utf-8", "surrogatepass")
    if not isinstance(key, bytes):
        raise ConfigurationError(f"{name} must be a string or bytes, not {type(key).__name__}")
    if len(key) < _SHORTEST:
        raise ConfigurationError(f"{name} must have at least {_SHORTEST} bytes, not {len(key)}")
    return key


class Key(SecretValue):
    """A derived key."""

    id: bytes
    secret: bytes


def derive(key: bytes, purpose: bytes) -> Key:
    """Return the key for one purpose."""

    def part(name: bytes) -> bytes:
        return hmac.digest(key, b"flagcache " + purpose + name, "sha256")

    return Key(part(b" id")[:ID_SIZE], part(b" key"))


def stamp_keys_of(keys: Sequence[bytes]) -> Sequence[StampKey]:
    """Return a key for stamps from each of these keys."""
    derived = (derive(key, b"order") for key in keys)
    return tuple(StampKey(key.id, key.secret) for key in derived)
