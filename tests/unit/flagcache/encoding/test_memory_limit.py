"""The memory that decoding takes: at most a multiple of the limit, whatever the payload has."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from itertools import count

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagcache.encoding.memory_limit import MsgpackMemory, check_json, memory_for, most_in_msgpack
from flagcache.encoding.payload import decode, digest, encode
from flagcache.encoding.shape import measure
from flagcache.errors import EnvelopeError, UnreadableHereError
from flagcache.settings import Settings
from flagcache_posthog.testing import make_definitions

LIMIT = 1024 * 1024
TIMES = 20
"""The multiple in docs/security.md."""

VERSION = "0" * 32


def packed(codec: bytes, body: bytes) -> bytes:
    """Make the payload of a body."""
    return struct.pack(">BcI", 1, codec, len(body)) + zlib.compress(body, 1)


def lists_of(items: Iterator[bytes], size: int) -> bytes:
    """Pack a document that holds these items in lists of 60,000, in this many bytes."""
    head = msgpack.packb([VERSION, {"flags": []}])[:-1]
    lists, used = list[bytes](), len(head) + 3
    while used < size:
        some = list[bytes]()
        while len(some) < 60_000 and used < size:
            some.append(next(items))
            used += len(some[-1])
        lists.append(b"\xdc" + struct.pack(">H", len(some)) + b"".join(some))
        used += 3
    return head + b"\xdc" + struct.pack(">H", len(lists)) + b"".join(lists)


def nested(size: int) -> bytes:
    """Pack lists within lists, of which none is complete before the last: no hook could count them meanwhile."""
    head = msgpack.packb([VERSION, {"flags": 0}])[:-1]
    level = b"\xdc" + struct.pack(">H", 60_000) + b"\xa2zz" * 59_999
    levels = max(1, (size - len(head)) // len(level))
    return head + level * levels + b"\xc0"


def one_map(size: int) -> bytes:
    """Pack one map of distinct keys."""
    head = msgpack.packb([VERSION, {"flags": 0}])[:-1]
    pairs = (size - len(head) - 5) // 7
    return head + b"\xdf" + struct.pack(">I", pairs) + b"".join(b"\xa5%05x\x00" % number for number in range(pairs))


def numbered(form: str) -> Iterator[bytes]:
    """Return distinct strings without end."""
    return (msgpack.packb(form % number) for number in count())


def always(item: bytes) -> Iterator[bytes]:
    """Return one and the same without end."""
    return (item for _ in count())


BODIES: dict[str, Callable[[int], bytes]] = {
    "strings of two": lambda size: lists_of(always(b"\xa2zz"), size),
    "strings of five": lambda size: lists_of(numbered("%05x"), size),
    "an emoji each": lambda size: lists_of(always(b"\xa4" + "\N{PILE OF POO}".encode()), size),
    "an emoji in each": lambda size: lists_of(always(b"\xaf" + "\N{PILE OF POO}".encode() + b"x" * 11), size),
    "negative numbers": lambda size: lists_of(always(b"\xe0"), size),
    "small negative numbers": lambda size: lists_of(always(b"\xd0\x80"), size),
    "floats": lambda size: lists_of(always(b"\xca\x3f\x00\x00\x01"), size),
    "empty maps": lambda size: lists_of(always(b"\x80"), size),
    "maps of one": lambda size: lists_of(always(b"\x81\xa0\x00"), size),
    "maps of eleven": lambda size: lists_of(
        always(b"\x8b" + b"".join(b"\xa1%c\x00" % (97 + number) for number in range(11))), size
    ),
    "lists of one": lambda size: lists_of(always(b"\x91\xa2zz"), size),
    "long strings": lambda size: lists_of(always(b"\xda\x03\xe8" + "\N{PILE OF POO}".encode() + b"x" * 996), size),
    "lists in lists": nested,
    "one map": one_map,
}

JSON_BODIES: dict[str, bytes] = {
    "strings": b'"zz",',
    "maps": b'{"":0},',
    "numbers": b"-9,",
    "emoji": '"\N{PILE OF POO}",'.encode(),
}


def peak_of(payload: bytes, limit: int) -> tuple[int, bool]:
    """Bytes that decoding takes at most, and whether it was refused for that."""
    tracemalloc.start()
    try:
        decode(payload, version=VERSION, limit=limit)
        refused = False
    except EnvelopeError as exc:
        refused = "memory" in str(exc)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak, refused


@pytest.mark.parametrize("part", [1.0, 0.4])
@pytest.mark.parametrize("make", BODIES.values(), ids=BODIES.keys())
def test_a_body_takes_no_more_than_a_multiple_of_the_limit(make: Callable[[int], bytes], part: float) -> None:
    """Whatever a body of the largest size or less consists of, decoding takes at most this multiple, refused or not."""
    body = make(round(LIMIT * part) - 70_000)
    assert len(body) <= LIMIT
    peak, _ = peak_of(packed(b"m", body), LIMIT)
    assert peak < TIMES * LIMIT


@pytest.mark.parametrize("item", JSON_BODIES.values(), ids=JSON_BODIES.keys())
@pytest.mark.parametrize("maps", [0, LIMIT // 16 - 100], ids=["alone", "after maps"])
def test_a_body_in_json_takes_no_more_either(item: bytes, maps: int) -> None:
    """The text counts too, also after as many maps as the limit allows."""
    first = b'{"":0},' * maps
    times = (LIMIT - 100 - len(first)) // len(item)
    body = b'["%s",[{"flags":[]},[' % VERSION.encode() + (first + item * times)[:-1] + b"]]]"
    peak, _ = peak_of(packed(b"j", body), LIMIT)
    assert peak < TIMES * LIMIT


def test_what_takes_too_much_is_left_to_others() -> None:
    """A process with a larger limit may be able to read it: it is refused as what is too large is."""
    payload = packed(b"m", lists_of(always(b"\xa2zz"), LIMIT - 1000))
    with pytest.raises(UnreadableHereError, match="bytes of memory"):
        decode(payload, version=VERSION, limit=LIMIT)
    with pytest.raises(UnreadableHereError, match="bytes of memory"):
        check_json(b'["zz"' + b',"zz"' * 300_000, memory_for(LIMIT))


@pytest.mark.parametrize("flags", [2000, 20_000])
def test_real_definitions_are_far_from_that(flags: int) -> None:
    """Definitions as large as their own limit are read; with the default 20,000 flags are."""
    definitions = make_definitions(flags)
    version = digest(definitions)
    payload = encode(definitions, version)
    size: int = struct.unpack_from(">BcI", payload)[2]
    assert decode(payload, version=version, limit=max(size, LIMIT)) == definitions
    assert size < Settings().max_decoded_bytes


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_pieces_count_as_the_whole(size: int) -> None:
    """Wherever a body is cut, in a header or in a text, as much is counted."""
    values: list[object] = ["x", "yy", "z" * 40, "z" * 300, "z" * 70_000, 1, -9, 300, 1.5, None, True, {}, [], [1] * 20]
    values += [{"a": 1}, {str(number): number for number in range(20)}, list(range(70_000))]
    body = msgpack.packb(values)

    whole, cut = MsgpackMemory(2**40, 2**40), MsgpackMemory(2**40, 2**40)
    whole.add(body)
    for start in range(0, len(body), size):
        cut.add(body[start : start + size])
    assert cut.counted == whole.counted > 70_000 * 8


VALUES: st.SearchStrategy[object] = st.one_of(
    st.none(), st.integers(-(2**63), 2**63), st.floats(), st.sampled_from(["", "x", "zz"]), st.text()
)
DOCUMENTS: st.SearchStrategy[object] = st.recursive(
    VALUES,
    lambda inner: st.one_of(st.lists(inner, max_size=40), st.dictionaries(st.text(), inner, max_size=20)),
    max_leaves=60,
)


@given(DOCUMENTS)
@settings(max_examples=200, deadline=None)
def test_no_body_counts_more_than_its_shape_allows(value: object) -> None:
    """The most that a writer computes without reading is never less than what a reader counts."""
    body = msgpack.packb({"a": value}, unicode_errors="surrogatepass")
    memory = MsgpackMemory(2**40, 2**40)
    memory.add(body)
    shape = measure({"a": value})
    assert memory.counted <= most_in_msgpack(shape.containers, shape.values, len(body))


@pytest.mark.parametrize("flags", [10, 5_000])
def test_real_definitions_are_within_what_their_shape_allows(flags: int) -> None:
    """A writer needs to read none of them, unless they are nearly as large as the limit."""
    definitions = make_definitions(flags)
    shape, size = measure(dict(definitions)), struct.unpack_from(">BcI", encode(definitions, VERSION))[2]
    assert most_in_msgpack(shape.containers, shape.values, size) <= memory_for(size * 3 // 2)
