"""Unpacking what is trusted in nothing: exactly the size that was said, and no more."""

from __future__ import annotations

import zlib

import msgpack
import pytest

from flagcache.encoding.unpack import LONGEST, inflate, read_msgpack
from flagcache.errors import EnvelopeError

BODY = b"flags " * 1000
MEMORY = 1 << 24


def packed(body: bytes) -> memoryview:
    """A zlib stream."""
    return memoryview(zlib.compress(body))


def read(document: object, *, more: bytes = b"", most: int = 1000, keep: bool = True) -> object:
    """Write a document in msgpack and read it, with `more` behind it."""
    body = msgpack.packb(document) + more
    return read_msgpack(packed(body), len(body), most, memory=MEMORY, keep=keep)


def test_a_stream_of_its_size_is_unpacked() -> None:
    """A stream of exactly its size is unpacked, whatever the size."""
    assert inflate(packed(BODY), len(BODY)) == BODY
    assert inflate(packed(b""), 0) == b""


@pytest.mark.parametrize(
    ("stream", "size"),
    [
        (packed(BODY), len(BODY) - 1),  # a bomb that says it is small
        (packed(BODY), len(BODY) + 1),
        (memoryview(bytes(packed(BODY))[:-1]), len(BODY)),
        (memoryview(bytes(packed(BODY)) + b"x"), len(BODY)),
        (memoryview(bytes(packed(BODY)) * 2), len(BODY)),
    ],
    ids=["larger", "smaller", "cut off", "with a rest", "twice"],
)
def test_a_stream_of_another_size_is_refused(stream: memoryview, size: int) -> None:
    """Neither shorter nor longer, and nothing may follow."""
    with pytest.raises(EnvelopeError):
        inflate(stream, size)


def test_a_document_is_read() -> None:
    """As msgpack alone reads it."""
    document = {"flags": [{"key": "a", "on": True}] * 20, "n": 1.5}
    assert read(document) == document


def test_nothing_may_follow_a_document() -> None:
    """Nothing may follow a document, not even another document."""
    for more in (b"\x00", msgpack.packb({})):
        with pytest.raises(EnvelopeError):
            read({"a": 1}, more=more)


def test_there_is_a_limit_of_containers() -> None:
    """In a body that is large enough to hold more."""
    empty: dict[str, object] = {}
    assert read({"flags": [empty] * 500}, most=600) == {"flags": [empty] * 500}
    with pytest.raises(EnvelopeError):
        read({"flags": [empty] * 700}, most=600)


def test_a_list_may_not_be_longer_than_readers_make_room_for() -> None:
    """It is refused by what it says of its length, before that many items are read."""
    with pytest.raises((EnvelopeError, ValueError)):
        read([0] * (LONGEST + 1), most=10)


@pytest.mark.parametrize(
    "value", [b"bytes", msgpack.ExtType(1, b"x"), msgpack.Timestamp(1)], ids=["bytes", "ext", "time"]
)
def test_what_is_not_json_is_refused(value: object) -> None:
    """Bytes and extensions are in no definitions."""
    with pytest.raises((EnvelopeError, ValueError)):
        read({"a": value})


def test_empty_bytes_are_refused_too() -> None:
    """The limits of msgpack let them pass; a number with the same bytes is none."""
    with pytest.raises(EnvelopeError, match="not JSON: bytes"):
        read({"a": b""})
    assert read({"a": 0xC400}) == {"a": 0xC400}


def test_a_check_keeps_nothing() -> None:
    """Without `keep`, each dict is an empty one."""
    assert read({"flags": [{"key": "a"}]}, keep=False) == {}
