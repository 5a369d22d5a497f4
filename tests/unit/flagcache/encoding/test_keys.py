"""The keys that a user gives, and those that are derived from them."""

from __future__ import annotations

import pytest

from flagcache.encoding.keys import ID_SIZE, checked_keys, derive, stamp_keys_of
from flagcache.errors import ConfigurationError

A, B = b"a" * 16, b"b" * 16


@pytest.mark.parametrize(
    ("material", "keys"),
    [(A, [A]), ("é" * 8, ["é".encode() * 8]), ([A, "b" * 16], [A, B]), ((B,), [B])],
)
def test_keys_are_bytes_or_strings_one_or_several(material: object, keys: list[bytes]) -> None:
    """A string is encoded as UTF-8."""
    assert checked_keys("signing_key", material) == keys


@pytest.mark.parametrize(
    ("material", "message"),
    [
        (b"a" * 15, r"^signing_key must have at least 16 bytes, not 15$"),
        ([A, "short"], r"^signing_key\[1\] must have at least 16 bytes, not 5$"),
        ([], r"^signing_key must hold at least one key"),
        (7, r"^signing_key must be a string, bytes, or several in a list, not int$"),
        ([A, 7], r"^signing_key\[1\] must be a string or bytes, not int$"),
    ],
)
def test_other_material_is_refused_with_its_place(material: object, message: str) -> None:
    """The message names the setting, and shows no key."""
    with pytest.raises(ConfigurationError, match=message) as refused:
        checked_keys("signing_key", material)
    assert "aaaa" not in str(refused.value)
    assert "short" not in str(refused.value)


def test_each_purpose_and_each_key_has_a_key_of_its_own() -> None:
    """Each purpose and key has its own derived key, the same in every process."""
    derived = {derive(key, purpose) for key in (A, B) for purpose in (b"signing", b"encryption")}
    assert len({key.id for key in derived}) == len({key.secret for key in derived}) == 4
    assert derive(A, b"signing").secret == derive(A, b"signing").secret
    assert {len(key.id) for key in derived} == {ID_SIZE}


def test_stamps_have_keys_of_their_own_in_the_same_order() -> None:
    """A key that signs definitions signs no times."""
    first, second = stamp_keys_of([A, B])
    assert [first.id, second.id] == [derive(A, b"order").id, derive(B, b"order").id]
    assert first.id != derive(A, b"signing").id


def test_a_key_does_not_show_itself() -> None:
    """Its repr names no byte of it."""
    assert derive(A, b"signing").secret.hex() not in repr(derive(A, b"signing"))
    assert repr(derive(A, b"signing").secret) not in repr(derive(A, b"signing"))
