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
only one container in 16 bytes of the limit. What is left, a body of nothing but tiny strings, takes about 30 times the
limit; real definitions take five times their own size.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple, cast

import msgpack

from flagcache.encoding.flat import CONTAINERS, flatten, listed, unflatten
from flagcache.errors import EnvelopeError

__all__ = ["FORMAT", "decode", "digest", "encode", "verify"]

FORMAT = 1
"""The number of the payload's layout, its first byte."""

_HEADER = struct.Struct(">BcI")
_MSGPACK, _JSON = b"m", b"j"
_TEXT = "surrogatepass"  # the error handler on both sides: JSON may hold half of a surrogate pair, UTF-8 may not

_LEVEL = 1  # of zlib. On 2,000 flags 6 makes it a fifth smaller and takes 2.4 times as long, and somebody waits for it

# Definitions with more levels of nesting are laid flat. What msgpack (its version, its pure-Python form) and the stack
# can hold differs from process to process; what a digest is made of, and what every process can read, must not.
_DEEP = 100
_DEEPEST = 100_000  # no parser gets there: such definitions hold themselves

# Items that a msgpack list may have. Before 1.2 msgpack makes room for all that a list says it has before it sees one,
# and so at each of 1,024 levels: 16 kB of payload, 16 MiB unpacked, held it for 20 seconds.
_LONGEST = 0xFFFF

_BYTES_PER_CONTAINER = 16  # conditions of real flags take 20 and more
_FEWEST_CONTAINERS = 65_536  # that many are allowed whatever the limit: they are small

_EMPTY_BIN = (b"\xc4\x00", b"\xc5\x00\x00", b"\xc6\x00\x00\x00\x00")

_KINDS: frozenset[type] = CONTAINERS | {str, int, float, bool, type(None)}

# What the codecs raise; RuntimeError is RecursionError's base, ArithmeticError that of OverflowError.
_CODEC_ERRORS = (msgpack.UnpackException, struct.error, zlib.error)
_TROUBLES = (*_CODEC_ERRORS, ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError)


def digest(definitions: Mapping[str, object]) -> str:
    """Name a content: equal definitions have the same digest for ever, in every process, whatever their keys' order.

    `1`, `1.0` and `True` are different contents. The digest is 32 hexadecimal digits of SHA-256 over compact JSON with
    sorted keys; of definitions that nest deeper than 100 levels, over their flat form.

    Raises:
        EnvelopeError: The definitions hold what is not JSON.
    """
    with _refusing("the definitions cannot be digested"):
        document = dict(definitions)
        shape = _measure(document)
        canonical = _dump(flatten(document, ordered=True) if shape.depth > _DEEP else document, ordered=True)
    return hashlib.sha256(canonical).hexdigest()[:32]


def encode(definitions: Mapping[str, object], version: str) -> bytes:
    """Make the payload of definitions, also of what is larger than a reader's limit.

    Args:
        definitions: Anything that `json.loads` can make of a JSON object.
        version: Their digest.

    Raises:
        EnvelopeError: The definitions hold what is not JSON, or are larger than 4 GiB.
    """
    with _refusing("the definitions cannot be encoded"):
        document = dict(definitions)
        codec, body = _write(document, version)
        return _HEADER.pack(FORMAT, codec, len(body)) + zlib.compress(body, _LEVEL)


def decode(payload: bytes, *, version: str, limit: int) -> dict[str, object]:
    """Read definitions from a payload; they hold only dicts with string keys, lists, strings, numbers, bools and None.

    Args:
        payload: The bytes, from wherever.
        version: What the store says that they are; another content is refused.
        limit: The largest body to unpack, in bytes.

    Raises:
        EnvelopeError: Anything at all is wrong. The message says what, without a byte of the data.
    """
    return _read(payload, version, limit)


def verify(payload: bytes, *, version: str, limit: int) -> None:
    """Read a payload as `decode` does and keep nothing: a second copy of the definitions would leave holes in memory.

    Raises:
        EnvelopeError: `decode` would refuse it; but for an empty `bytes` in it, which `encode` never writes.
    """
    _read(payload, version, limit, keep=False)


@contextmanager
def _refusing(what: str) -> Generator[None]:
    try:
        yield
    except _TROUBLES as exc:
        # Without its cause: a decoder's exception holds the data that it could not decode.
        raise EnvelopeError(f"{what}: {type(exc).__name__}") from None


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(document: dict[str, object], version: str) -> tuple[bytes, bytes]:
    """The codec and the body: msgpack if it can carry all of it to every reader, else JSON."""
    shape = _measure(document)
    if shape.depth <= _DEEP and shape.longest <= _LONGEST:
        try:
            return _MSGPACK, msgpack.packb([version, document], use_bin_type=True, unicode_errors=_TEXT)
        except OverflowError:  # an integer beyond 64 bits
            pass
    return _JSON, _dump([version, flatten(document)])


def _dump(document: object, *, ordered: bool = False) -> bytes:
    # Escapes would not do: two halves of a pair that stand side by side, which is not one character, would become it.
    text = json.dumps(document, sort_keys=ordered, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", _TEXT)


class _Shape(NamedTuple):
    depth: int  # levels of containers
    longest: int  # items of the longest list


def _measure(document: dict[str, object]) -> _Shape:
    """Go through a whole document, level by level, and refuse what `json.loads` could not have made."""
    dicts: list[dict[str, object]] = [document]
    lists: list[list[object]] = []
    depth = longest = 0
    while dicts or lists:
        depth += 1
        longest = max(longest, max(map(len, lists), default=0))
        values = [*chain.from_iterable(node.values() for node in dicts), *chain.from_iterable(lists)]
        strange = set(map(type, values)) - _KINDS | set(map(type, chain.from_iterable(dicts))) - {str}
        if strange or depth > _DEEPEST:
            raise EnvelopeError(
                f"not JSON: {', '.join(sorted(kind.__name__ for kind in strange)) or 'endless nesting'}"
            )
        dicts = [cast("dict[str, object]", value) for value in values if type(value) is dict]
        lists = [cast("list[object]", value) for value in values if type(value) is list]
    return _Shape(depth, longest)


# --- reading ----------------------------------------------------------------------------------------------------------


def _read(payload: bytes, version: str, limit: int, *, keep: bool = True) -> dict[str, object]:
    with _refusing("the payload is broken"):
        codec, body = _unwrap(payload, limit)
        most = max(_FEWEST_CONTAINERS, limit // _BYTES_PER_CONTAINER)
        content = _read_msgpack(body, most, keep=keep) if codec == _MSGPACK else _read_json(body, most)
        written, definitions = listed(content)
        if type(definitions) is not dict:
            raise EnvelopeError("the payload holds no definitions")
        if written != version:
            raise EnvelopeError("the payload is of another version than the store says")
        return cast("dict[str, object]", definitions)


def _unwrap(payload: bytes, limit: int) -> tuple[bytes, bytes]:
    """The codec and the body, which is exactly as large as the header says."""
    number, codec, size = _HEADER.unpack_from(payload)
    if number != FORMAT:
        raise EnvelopeError(f"the payload has format {number}; this version of flagcache reads format {FORMAT}")
    if codec not in {_MSGPACK, _JSON}:
        raise EnvelopeError("the payload has an unknown codec")
    if size > limit:
        raise EnvelopeError(f"the payload says that it unpacks to {size} bytes; the limit is {limit}")
    stream = zlib.decompressobj()
    # One byte more than there should be: shows the bomb that lies about its size, and lets the stream come to its end.
    body = stream.decompress(memoryview(payload)[_HEADER.size :], size + 1)
    if not stream.eof or stream.unused_data or len(body) != size:
        raise EnvelopeError("the payload is truncated, followed by something, or not of the size that it says")
    return codec, body


def _read_msgpack(body: bytes, most: int, *, keep: bool) -> object:
    # A container takes a byte at least, so that only a large body can hold too many. The hook adds half to the time.
    count = _counter(most) if len(body) > most else None
    content: object = msgpack.unpackb(
        body,
        raw=False,
        unicode_errors=_TEXT,
        strict_map_key=True,
        max_array_len=_LONGEST,
        max_bin_len=0,
        max_ext_len=0,
        ext_hook=_refuse_extension,
        object_hook=count if keep else _emptying(count),
        list_hook=count,
    )
    # That leaves b"" as the one value that is not JSON. On 2,000 flags (1.2 MB) the search for its three spellings adds
    # a fifth to unpacking, where going through the values doubles it; that is left for when a number looks like one.
    if any(spelling in body for spelling in _EMPTY_BIN):
        _measure({"": content})
    return content


def _counter(most: int) -> Callable[[object], object]:
    """A hook that msgpack calls with each container, at its end."""
    left = most

    def count(container: object) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise EnvelopeError(f"the payload holds more than {most} containers")
        return container

    return count


def _emptying(count: Callable[[object], object] | None) -> Callable[[object], object]:
    """A hook that puts one empty dict in the place of each, so that none is held longer than it is read."""
    nothing: dict[str, object] = {}

    def empty(container: object) -> object:
        if count is not None:
            count(container)
        return nothing

    return empty


def _refuse_extension(_code: int, _data: bytes) -> None:
    raise EnvelopeError("the payload holds a msgpack extension")


def _read_json(body: bytes, most: int) -> object:
    if body.count(b"[") + body.count(b"{") > most:  # those within strings too: JSON is the exception here
        raise EnvelopeError(f"the payload holds more than {most} containers")
    written, nodes = listed(json.loads(body.decode("utf-8", _TEXT)))
    return [written, unflatten(nodes)]
