"""Definitions as bytes, and back: bounded, and safe with whatever a store may hand out.

A payload of format 1 is

    byte 0      the format's number; `FORMAT` is the only one that this module reads
    byte 1      the codec of the body: `m` msgpack, or `j` JSON for what msgpack cannot carry unchanged everywhere
    bytes 2-5   the body's size in bytes, an unsigned big-endian integer
    bytes 6-    the body, as one zlib stream that ends where the payload ends

and the body is, in its codec, a list of two:

    m   [version, definitions]   strings are UTF-8 in which lone surrogates may stand; no bin, no ext, no array 32
    j   [version, nodes]         JSON in the same UTF-8; `nodes` are the definitions laid flat, see `flatten`

The version inside the body makes sure that one content's payload is never taken for another's.

What is decoded is trusted in nothing. The size is looked at before anything is unpacked, and never more than it is
unpacked. Python objects take more room than their bytes: a one-byte map costs 64 bytes and more, so that there may be
only one container in 16 bytes of the limit, and what all objects take is counted before they are made
(`flagcache.encoding.memory_limit`): at most 20 times the limit, or 20 MiB if that is more. Real definitions take five
times their own size.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import cast

import msgpack

from flagcache.encoding.flat import flatten, listed, unflatten
from flagcache.encoding.memory_limit import check_json, memory_for, most_in_msgpack
from flagcache.encoding.pieces import TEXT, json_pieces, msgpack_pieces
from flagcache.encoding.shape import Shape, measure
from flagcache.encoding.unpack import LONGEST, inflate, read_msgpack
from flagcache.errors import EnvelopeError, UnreadableHereError

__all__ = ["FORMAT", "decode", "digest", "encode", "is_digest", "verify"]

FORMAT = 1
"""The number of the payload's layout, its first byte."""

_DIGITS, _DIGEST = frozenset("0123456789abcdef"), 32

_HEADER = struct.Struct(">BcI")
_MSGPACK, _JSON = b"m", b"j"

_LEVEL = 1  # of zlib. For 2,000 flags, 6 is a fifth smaller and takes 2.4 times as long, and workers wait for it

# Definitions with more levels of nesting are laid flat. What msgpack (its version, its pure-Python form) and the stack
# can hold differs from process to process; what a digest is made of, and what every process can read, must not.
_DEEP = 100

_BYTES_PER_CONTAINER = 16  # conditions of real flags take 20 and more
_FEWEST_CONTAINERS = 65_536  # that many are allowed whatever the limit: they are small

_HIGHEST_RATIO = 1040  # zlib makes no more than 1,032 bytes of one

# What the codecs raise; RuntimeError is RecursionError's base, ArithmeticError that of OverflowError.
_CODEC_ERRORS = (msgpack.UnpackException, struct.error, zlib.error)
_TROUBLES = (*_CODEC_ERRORS, ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError)


def digest(definitions: Mapping[str, object]) -> str:
    """Return the version of definitions: equal definitions have the same digest, whatever the order of their keys.

    `1`, `1.0` and `True` are different contents. The digest is 32 hexadecimal digits of SHA-256 over compact JSON with
    sorted keys; of definitions that nest deeper than 100 levels, over their flat form.

    Raises:
        EnvelopeError: The definitions hold what is not JSON.
    """
    with _refusing("the definitions cannot be digested"):
        document = dict(definitions)
        deep = measure(document).depth > _DEEP
        name = hashlib.sha256()
        for piece in json_pieces(flatten(document, ordered=True) if deep else document, ordered=True):
            name.update(piece)
    return name.hexdigest()[:_DIGEST]


def is_digest(version: str) -> bool:
    """Whether this can be the name of a content."""
    return len(version) == _DIGEST and _DIGITS.issuperset(version)


def encode(definitions: Mapping[str, object], version: str, *, limit: int | None = None) -> bytes:
    """Make the payload of definitions.

    Args:
        definitions: Anything that `json.loads` can make of a JSON object.
        version: Their digest.
        limit: Of the readers, as in `decode`. Without one the payload is made even if they would refuse it.

    Raises:
        EnvelopeError: The definitions hold what is not JSON, or are larger than 4 GiB; or `decode` would refuse the
            payload.
    """
    with _refusing("the definitions cannot be encoded"):
        document = dict(definitions)
        shape = measure(document)
        codec, size, packed = _write(document, version, shape)
        payload = b"".join((_HEADER.pack(FORMAT, codec, size), *packed))
    if limit is not None and not _is_within(limit, codec, size, shape):
        verify(payload, version=version, limit=limit)
    return payload


def decode(payload: bytes, *, version: str, limit: int) -> dict[str, object]:
    """Read definitions from a payload; they hold only dicts with string keys, lists, strings, numbers, bools and None.

    Args:
        payload: The bytes, from wherever.
        version: What the store says that they are; another content is refused.
        limit: The largest body to unpack, in bytes.

    Raises:
        EnvelopeError: Anything at all is wrong. The message says what, without a byte of the data.
    """
    with _refusing("the payload is broken"):
        return _read(payload, version, limit, keep=True)


def verify(payload: bytes, *, version: str, limit: int) -> None:
    """Read a payload as `decode` does and keep nothing: a second copy of the definitions would stay in memory.

    Raises:
        EnvelopeError: `decode` would refuse it; but for an empty `bytes` in it, which `encode` never writes.
    """
    with _refusing("the payload is broken"):
        _read(payload, version, limit, keep=False)


@contextmanager
def _refusing(what: str) -> Generator[None]:
    try:
        yield
    except (MemoryError, RecursionError) as exc:
        raise UnreadableHereError(f"{what}: {type(exc).__name__}", passing=True) from None
    except _TROUBLES as exc:
        # Without its cause: a decoder's exception holds the data that it could not decode.
        raise EnvelopeError(f"{what}: {type(exc).__name__}") from None


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(document: dict[str, object], version: str, shape: Shape) -> tuple[bytes, int, list[bytes]]:
    """The codec, the size of the body, and the body packed: msgpack if it carries all to every reader, else JSON."""
    if shape.depth <= _DEEP and shape.longest <= LONGEST:
        try:
            return _MSGPACK, *_pack(msgpack_pieces(version, document))
        except OverflowError:  # an integer beyond 64 bits
            pass
    return _JSON, *_pack(json_pieces([version, flatten(document)]))


def _pack(pieces: Iterable[bytes]) -> tuple[int, list[bytes]]:
    """The size of all pieces, and one zlib stream of them."""
    stream, size = zlib.compressobj(_LEVEL), 0
    packed: list[bytes] = []
    for piece in pieces:
        size += len(piece)
        packed.append(stream.compress(piece))
    return size, [*packed, stream.flush()]


def _is_within(limit: int, codec: bytes, size: int, shape: Shape) -> bool:
    """Whether it is certain, without reading it, that a reader with this limit takes what was written.

    False for JSON, which is rare: the brackets and commas in its strings count too, and only its text has those. More
    containers than a reader takes always count as more memory than it allows.
    """
    most = most_in_msgpack(shape.containers + 1, shape.values + 2, size)  # the body is a list of two
    return codec == _MSGPACK and size <= limit and most <= memory_for(limit)


# --- reading ----------------------------------------------------------------------------------------------------------


def _read(payload: bytes, version: str, limit: int, *, keep: bool) -> dict[str, object]:
    number, codec, size = _HEADER.unpack_from(payload)
    if number != FORMAT:
        raise EnvelopeError(f"the payload has format {number}; this version of flagcache reads format {FORMAT}")
    if codec not in {_MSGPACK, _JSON}:
        raise EnvelopeError("the payload has an unknown codec")
    if size > limit:
        # One that cannot be that large is broken for every process.
        kind = EnvelopeError if size > _HIGHEST_RATIO * len(payload) else UnreadableHereError
        raise kind(f"the payload says that it unpacks to {size} bytes; the limit is {limit}")
    body, most = memoryview(payload)[_HEADER.size :], max(_FEWEST_CONTAINERS, limit // _BYTES_PER_CONTAINER)
    memory = memory_for(limit)
    if codec == _JSON:
        content = _read_json(inflate(body, size), most, memory)
    else:
        content = read_msgpack(body, size, most, memory=memory, keep=keep)
    written, definitions = listed(content)
    if type(definitions) is not dict:
        raise EnvelopeError("the payload holds no definitions")
    if written != version:
        raise EnvelopeError("the payload is of another version than the store says")
    return cast("dict[str, object]", definitions)


def _read_json(body: bytes, most: int, memory: int) -> object:
    if body.count(b"[") + body.count(b"{") > most:  # those within strings too: JSON is the exception here
        raise UnreadableHereError(f"the payload holds more than {most} containers")
    check_json(body, memory)
    written, nodes = listed(json.loads(body.decode("utf-8", TEXT)))
    return [written, unflatten(nodes)]
