"""Documents as bytes in pieces: joined, they are what the libraries write at once."""

from __future__ import annotations

import json

import msgpack
import pytest

from flagcache.encoding.pieces import json_pieces, msgpack_pieces

DOCUMENTS: list[dict[str, object]] = [
    {},
    {"flags": [], "cohorts": {}},
    {"flags": [{"key": f"flag-{n}", "é": None} for n in range(1000)], "z": {str(n): n for n in range(300)}, "a": 1.5},
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_pieces_of_json_are_those_of_the_whole(document: dict[str, object]) -> None:
    """Joined pieces are compact JSON in UTF-8, with sorted keys if asked."""
    for ordered in (False, True):
        whole = json.dumps(document, separators=(",", ":"), ensure_ascii=False, sort_keys=ordered)
        assert b"".join(json_pieces(document, ordered=ordered)) == whole.encode()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_pieces_of_msgpack_are_those_of_the_whole(document: dict[str, object]) -> None:
    """Joined pieces are msgpack, with the version before the document."""
    assert b"".join(msgpack_pieces("v1", document)) == msgpack.packb(["v1", document])


def test_no_piece_is_large() -> None:
    """A long list is written in many pieces, of which no one has more than some kilobytes here."""
    document: dict[str, object] = {"flags": [{"key": "x" * 50} for _ in range(10_000)]}
    for pieces in (list(json_pieces(document)), list(msgpack_pieces("v1", document))):
        assert len(pieces) > 50
        assert max(map(len, pieces)) < 128 * 100


def test_half_of_a_pair_survives() -> None:
    """JSON may hold one, UTF-8 may not: both sides write it alike."""
    assert b"".join(json_pieces({"a": "\ud800"})) == b'{"a":"\xed\xa0\x80"}'
    assert b"\xed\xa0\x80" in b"".join(msgpack_pieces("v1", {"a": "\ud800"}))


def test_msgpack_has_no_larger_integers() -> None:
    """More than 64 bits are said, not cut off."""
    with pytest.raises(OverflowError):
        list(msgpack_pieces("v1", {"a": 2**64}))
