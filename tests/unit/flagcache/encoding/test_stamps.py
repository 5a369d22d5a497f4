"""Stamps: what is signed of order, ages, notes and epochs, and that nothing else passes for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flagcache.encoding.codec import Codec
from flagcache.encoding.protection import PLAIN, Protection, Sealed, SealedAndSigned, Signed
from flagcache.encoding.stamps import LENGTH, SignedBackoff, SignedTimes, Stamps

KEY, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2
TIMES, NOTE = SignedTimes(3, 1_764_500_000_123, 1_764_500_000_000), SignedBackoff(402, 1_764_500_000_000, 30_000)


def stamps(protection: Protection | None = None, namespace: str = "shop") -> Stamps:
    """Of one namespace."""
    return Codec(namespace, Signed(KEY) if protection is None else protection, limit=1 << 20).stamps


KINDS = [Signed(KEY), Sealed(KEY), SealedAndSigned(Sealed(OTHER), Signed(KEY))]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_was_signed_is_read(kind: Protection) -> None:
    """Times, notes and epochs come back as they were, from another object with the same key."""
    made = stamps(kind)
    assert made.signs
    assert made.times("v1", made.of_times("v1", TIMES)) == TIMES
    assert made.backoff(made.of_backoff(NOTE)) == NOTE
    assert made.proves_epoch(7, made.of_epoch(7))
    assert len(made.of_times("v1", TIMES)) == LENGTH


def test_every_bit_counts() -> None:
    """With any bit of any character turned, cut off or lengthened, a stamp says nothing."""
    made = stamps()

    def times(stamp: str) -> SignedTimes | None:
        return made.times("v1", stamp)

    signed: list[tuple[str, Callable[[str], object]]] = [
        (made.of_times("v1", TIMES), times),
        (made.of_backoff(NOTE), made.backoff),
    ]
    for stamp, read in signed:
        altered = [
            stamp[:place] + chr(ord(stamp[place]) ^ 1 << bit) + stamp[place + 1 :]
            for place in range(len(stamp))
            for bit in range(8)
        ]
        for wrong in (
            *altered,
            *(stamp[:end] for end in range(len(stamp))),
            stamp + "A",
            "=" * LENGTH,
            "\ud800" * LENGTH,
        ):
            assert read(wrong) is None


def test_a_stamp_serves_one_purpose() -> None:
    """One of another version, namespace, protection, purpose or key says nothing."""
    made = stamps()
    stamp, epoch = made.of_times("v1", TIMES), made.of_epoch(7)
    assert made.times("v2", stamp) is None
    assert made.backoff(stamp) is None
    assert not made.proves_epoch(TIMES.epoch, stamp)
    assert not made.proves_epoch(8, epoch)
    assert made.times("", epoch) is None
    for others in (stamps(namespace="other"), stamps(Sealed(KEY)), stamps(Signed(OTHER))):
        assert others.times("v1", stamp) is None
        assert not others.proves_epoch(7, epoch)


def test_keys_are_rotated() -> None:
    """The first key signs, all verify."""
    old, between, swapped, new = (stamps(Signed(keys)) for keys in (KEY, [KEY, OTHER], [OTHER, KEY], OTHER))
    for writer, reader in ((old, between), (between, old), (swapped, between), (swapped, new)):
        assert reader.times("v1", writer.of_times("v1", TIMES)) == TIMES
    assert old.times("v1", new.of_times("v1", TIMES)) is None


def test_without_a_key_nothing_is_signed() -> None:
    """A plain fleet makes no stamps and asks for none."""
    made = stamps(PLAIN)
    assert not made.signs
    assert made.of_times("v1", TIMES) == made.of_backoff(NOTE) == made.of_epoch(7) == ""
    assert made.times("v1", stamps().of_times("v1", TIMES)) is None


def test_what_is_no_number_of_a_store_is_not_signed() -> None:
    """From 2^53 on a number is not the same to all who read it."""
    made = stamps()
    assert made.of_times("v1", TIMES._replace(as_of=2**53)) == made.of_times("v1", TIMES._replace(as_of=-1)) == ""
