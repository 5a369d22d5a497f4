from __future__ import annotations

import json
import math
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import cast

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flagcache.encoding import pieces
from flagcache.encoding.payload import FORMAT, decode, digest, encode, verify
from flagcache.encoding.pieces import TEXT as SURROGATES
from flagcache.encoding.pieces import json_pieces, msgpack_pieces
from flagcache.errors import EnvelopeError

LIMIT = 64 * 1024 * 1024
VERSION = "0123456789abcdef0123456789abcdef"
BIG = 2**64  # the first integer that msgpack cannot hold

# Surrogates stand alone in JSON only as escapes; `characters` leaves them out unless it is asked.
TEXT = st.text(st.one_of(st.characters(), st.characters(categories=["Cs"])), max_size=12)
NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 2**63 - 1, 2**63, 2**64 - 1, BIG, -(2**63), -(2**63) - 1, 10**400, -(10**4000)]),
    st.floats(),
    st.sampled_from([0.0, -0.0, 5e-324, 1e308, math.inf, -math.inf, math.nan, 1.0]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(TEXT, inner, max_size=5)),
    max_leaves=30,
)
DOCUMENTS = st.dictionaries(TEXT, VALUES, max_size=5)


def same(one: object, other: object) -> bool:
    """Whether two values are the same JSON: types, keys and their order, bits of floats; at any depth."""
    pairs = [(one, other)]
    while pairs:
        left, right = pairs.pop()
        if type(left) is not type(right):
            return False
        if type(left) in {dict, list}:
            mine, yours = members(left), members(right)
            if len(mine) != len(yours):
                return False
            pairs += zip(mine, yours, strict=True)
        elif bits(left) != bits(right):
            return False
    return True


def members(container: object) -> list[object]:
    """All that a container holds, keys first."""
    if isinstance(container, dict):
        return [*cast("dict[object, object]", container), *cast("dict[object, object]", container).values()]
    return cast("list[object]", container)


def bits(value: object) -> object:
    """A value that is equal only for the same float, if it is one."""
    return struct.pack(">d", value) if isinstance(value, float) else value


def parsed(text: str | bytes) -> dict[str, object]:
    """What a worker gets from a server that answers `text`."""
    return cast("dict[str, object]", json.loads(text))


def round_trip(definitions: Mapping[str, object], codec: bytes | None = None) -> bool:
    """Whether definitions come back the same, in `codec` if one is named."""
    version = digest(definitions)
    payload = encode(definitions, version)
    assert codec is None or payload[1:2] == codec
    decoded = decode(payload, version=version, limit=LIMIT)
    assert digest(decoded) == version, "a reader would find another content under its name"
    return same(decoded, definitions)


def wrap(body: bytes, *, codec: bytes = b"m", size: int | None = None, number: int = FORMAT) -> bytes:
    """A payload around any body, with a header that may lie."""
    return struct.pack(">BcI", number, codec, len(body) if size is None else size) + zlib.compress(body)


def hand_made(content: bytes) -> bytes:
    """A payload whose definitions are `{"a": <content>}`, with `content` as msgpack's own bytes."""
    return wrap(b"\x92" + msgpack.packb(VERSION) + b"\x81\xa1a" + content)


def hand_made_json(nodes: object) -> bytes:
    """A payload in the codec for what msgpack cannot carry."""
    return wrap(json.dumps([VERSION, nodes]).encode(), codec=b"j")


def nested(depth: int, *, dicts: bool = False) -> str:
    """JSON text that nests `depth` levels below the top."""
    opening, closing = ('{"a":', "}") if dicts else ("[", "]")
    return '{"a":' + opening * depth + "1" + closing * depth + "}"


def refused(payload: bytes, match: str = ".", *, limit: int = LIMIT) -> None:
    """Assert that a payload is refused, and for the reason that is meant."""
    with pytest.raises(EnvelopeError, match=match):
        decode(payload, version=VERSION, limit=limit)


@contextmanager
def at_most(megabytes: float) -> Generator[None]:
    """Assert that Python takes no more memory than this inside."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1_000_000
    finally:
        tracemalloc.stop()


# --- what goes in comes out -------------------------------------------------------------------------------------------


@given(DOCUMENTS)
@example({"": {"": []}, "flags": [{}, [], "", 0, -0.0, math.nan, None, True, 1, 1.0]})
@example({"a": "\ud83d", "\ude00": "\ud83d\ude00", "c": "😀"})
@example({"b": 1, "a": BIG})
@settings(max_examples=400, deadline=None)
def test_every_json_value_survives(definitions: dict[str, object]) -> None:
    """What `json.loads` made of a server's answer comes back unchanged: values, types, order of keys."""
    answer = parsed(json.dumps(definitions))
    assert round_trip(answer)
    assert same(answer, parsed(json.dumps(definitions)))


@pytest.mark.parametrize(
    "answer",
    [
        rb'{"a": 1e400, "b": -1e400, "c": NaN, "d": -Infinity, "e": -0.0, "f": -0, "g": 1E2, "h": 5e-324}',
        rb'{"a": "\ud800", "\udfff": "\u0000", "": "", "b": "\ud83d\ude00"}',
        b'{"a": "\\ud83d\xed\xb8\x80"}',  # two halves that json.loads leaves apart
        b'{"a": [18446744073709551615, 18446744073709551616, -9223372036854775808, -9223372036854775809]}',
        b'{"a": 1' + b"0" * 4299 + b"}",
        b'{"a": 1, "b": [], "a": {"z": 1, "y": 2}}',
        b"{}",
    ],
)
def test_extremes_survive(answer: bytes) -> None:
    """The corners of what Python's JSON parser accepts come back unchanged."""
    assert round_trip(parsed(answer))


@pytest.mark.parametrize("big", [0, BIG])
def test_halves_of_a_pair_stay_apart(big: int) -> None:
    """Two surrogates side by side do not become one character, in neither codec, and have another digest than it."""
    apart, one = {"a": "\ud83d" + "\ude00", "n": big}, {"a": "😀", "n": big}
    assert round_trip(apart)
    assert digest(apart) != digest(one)


@pytest.mark.parametrize("dicts", [False, True])
@pytest.mark.parametrize("depth", [98, 99, 100, 101, 500, 900])
def test_nesting_survives(depth: int, dicts: bool) -> None:
    """Deep definitions come back, on both sides of the depth from which they are flattened."""
    assert round_trip(parsed(nested(depth, dicts=dicts)), b"m" if depth < 100 else b"j")


@pytest.mark.parametrize("dicts", [False, True])
def test_whatever_the_parser_accepts_survives_with_little_stack_left(dicts: bool) -> None:
    """The deepest answer that `json.loads` accepts is digested, encoded and decoded far down a full stack."""
    accepted, refused_at = 1, 200_000
    while refused_at - accepted > 1:
        depth = (accepted + refused_at) // 2
        try:
            parsed(nested(depth, dicts=dicts))
            accepted = depth
        except RecursionError:
            refused_at = depth
    deepest = parsed(nested(accepted, dicts=dicts))

    def far_down(frames: int) -> bool:
        return far_down(frames - 1) if frames else round_trip(deepest, b"j")

    assert accepted > 700
    assert far_down(sys.getrecursionlimit() // 2)


def test_a_digest_does_not_depend_on_the_stack() -> None:
    """Deep definitions have the same digest in every process and thread."""
    deep = parsed(nested(800))

    def far_down(frames: int) -> str:
        return far_down(frames - 1) if frames else digest(deep)

    assert far_down(sys.getrecursionlimit() // 2) == digest(deep)


def test_twenty_thousand_flags_survive() -> None:
    """As many flags as PostHog allows come back, in the compact codec."""
    groups = [{"properties": [{"key": "email", "value": ["a", "b"], "operator": "exact"}], "rollout_percentage": 100}]
    flags = [{"id": n, "key": f"flag-{n}", "filters": {"groups": groups}, "active": True} for n in range(20_000)]
    assert round_trip(parsed(json.dumps({"flags": flags, "group_type_mapping": {}, "cohorts": {}})), b"m")


def test_long_lists_survive() -> None:
    """A list longer than what is allowed in msgpack travels as JSON."""
    assert round_trip({"a": list(range(65_535))}, b"m")
    assert round_trip({"a": list(range(65_536))}, b"j")


def test_what_format_1_wrote_is_read_for_ever() -> None:
    """Payloads written by the first release can be read, in both codecs."""
    plain = (
        "016d0000003b78019b7453c1c0d0c8d8c4d4ccdcc23231293925350d9ddfb430690ae369fb0f"
        "0c6070f8c0c2c4a58757be5dd00000291e1507"
    )
    exact = (
        "016a0000006178018b563230343236313533b7b04c4c4a4e494d43e72be944572b25295945c7ea28252a59291d5ef9"
        "76418352ad4eb4a185898999b9898981b9b1b981a5a9a9a199a1994e746cac4eb55232483950496c6c2c002a5e1b7e"
    )
    wrote: dict[str, object] = {"b": [1, 1.0, True, None], "a": "é\ud800"}
    assert same(decode(bytes.fromhex(plain), version=VERSION, limit=LIMIT), wrote)
    wrote["b"] = [BIG, {"c": []}]
    assert same(decode(bytes.fromhex(exact), version=VERSION, limit=LIMIT), wrote)


# --- in pieces --------------------------------------------------------------------------------------------------------


def in_json(document: object, *, ordered: bool) -> bytes:
    """All at once."""
    text = json.dumps(document, sort_keys=ordered, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", SURROGATES)


@given(DOCUMENTS, st.integers(1, 3))
@example({"a": [1, 2, 3], "b": {"z": 1, "y": 2, "x": 3}, "c": [], "d": {}, "e": [[]], "f": "\ud83d"}, 2)
@settings(max_examples=200, deadline=None)
def test_the_pieces_are_those_of_the_whole(definitions: dict[str, object], items: int) -> None:
    """Joined, they are what is written at once, wherever a list or dict is divided; readers see no difference."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pieces, "_ITEMS", items)
        for ordered in (False, True):
            assert b"".join(json_pieces(definitions, ordered=ordered)) == in_json(definitions, ordered=ordered)
        assert b"".join(json_pieces([VERSION, [definitions]])) == in_json([VERSION, [definitions]], ordered=False)
        with suppress(OverflowError):
            packed = b"".join(msgpack_pieces(VERSION, definitions))
            assert packed == msgpack.packb([VERSION, definitions], use_bin_type=True, unicode_errors=SURROGATES)


@pytest.fixture(scope="module")
def large() -> tuple[dict[str, object], str, bytes]:
    """Definitions of some megabytes, their digest and their payload."""
    condition = {"properties": [{"key": "email", "value": [f"user-{n}@example.com" for n in range(40)]}]}
    flags = [{"id": n, "key": f"flag-{n}", "filters": {"groups": [condition]}, "active": True} for n in range(5_000)]
    definitions = parsed(json.dumps({"flags": flags, "group_type_mapping": {}, "cohorts": {}}))
    version = digest(definitions)
    return definitions, version, encode(definitions, version)


@pytest.mark.parametrize("step", ["digest", "encode", "verify"])
def test_no_step_of_writing_takes_a_second_copy(large: tuple[dict[str, object], str, bytes], step: str) -> None:
    """At its peak each takes a fraction of the definitions' size: the allocator would keep more for good."""
    definitions, version, payload = large
    steps: dict[str, Callable[[], object]] = {
        "digest": lambda: digest(definitions),
        "encode": lambda: encode(definitions, version),
        "verify": lambda: verify(payload, version=version, limit=LIMIT),
    }
    with at_most(len(in_json(definitions, ordered=False)) / 2 / 1_000_000):
        steps[step]()


def test_reading_takes_no_block_of_the_body(large: tuple[dict[str, object], str, bytes]) -> None:
    """Reading takes no block of the body's size beside the definitions themselves."""
    _, version, payload = large
    size = int.from_bytes(payload[2:6], "big")
    tracemalloc.start()
    try:
        read = decode(payload, version=version, limit=LIMIT)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read
    assert peak - held < size / 4


@pytest.mark.parametrize("before", [65_520, 65_530, 65_531, 65_532, 65_533, 65_534, 65_535, 65_536])
@pytest.mark.parametrize("spelling", [b"\xc4\x00", b"\xc5\x00\x00", b"\xc6\x00\x00\x00\x00"])
def test_what_is_not_json_is_found_wherever_a_piece_ends(spelling: bytes, before: int) -> None:
    """An empty `bytes` across the border of two pieces of what is unpacked."""
    filling = msgpack.packb("x" * (before - 42))
    refused(hand_made(b"\x92" + filling + spelling), "not JSON: bytes")
    assert decode(hand_made(b"\x92" + filling + b"\x01"), version=VERSION, limit=LIMIT)


def test_verifying_refuses_what_reading_does() -> None:
    """A payload that is cut short, longer, of another size or version, or too large for a reader is not published."""
    good = encode({"flags": [{"key": "a"}]}, VERSION)
    size = int.from_bytes(good[2:6], "big")
    body = zlib.decompress(good[6:])
    verify(good, version=VERSION, limit=size)
    bad = [*(good[:length] for length in range(len(good))), good + b"\0", wrap(body, size=size - 1), wrap(body + b"\0")]
    bad += [
        wrap(body, size=size + 1),
        wrap(body + b"\0", size=size),
        hand_made(b"\xd4\x01\x00"),
        hand_made(b"\xc4\x01x"),
    ]
    for payload in bad:
        with pytest.raises(EnvelopeError):
            verify(payload, version=VERSION, limit=LIMIT)
    with pytest.raises(EnvelopeError, match="another version"):
        verify(good, version=VERSION[::-1], limit=LIMIT)
    with pytest.raises(EnvelopeError, match="the limit is"):
        verify(good, version=VERSION, limit=size - 1)


# --- digests ----------------------------------------------------------------------------------------------------------


def test_digests_stay_what_they_are() -> None:
    """A digest never changes: the first release made these."""
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e"
    assert digest({"b": [1, 1.0, True, None], "a": "é\ud800"}) == "2e7457ddbf8fc972b83a76e8afa2a65d"
    assert digest(parsed(nested(150))) == "832eb71733a32f07c354da55435fcca9"


@given(DOCUMENTS, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_a_digest_ignores_the_order_of_keys(definitions: dict[str, object], dice: object) -> None:
    """The same content has the same digest however its keys are ordered."""
    backwards = json.loads(json.dumps(definitions), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert digest(backwards) == digest(parsed(json.dumps(definitions)))


def test_a_deep_digest_ignores_the_order_of_keys() -> None:
    """So it does where definitions are laid flat."""
    text = '{"b": [{}, 2], "a": ' + nested(200) + ', "c": {"y": [1], "x": [2]}}'
    backwards = json.loads(text, object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert digest(backwards) == digest(parsed(text))
    assert digest(parsed(text.replace('"y": [1], "x": [2]', '"y": [2], "x": [1]'))) != digest(backwards)


def test_digests_tell_contents_apart() -> None:
    """Values that Python calls equal, and shapes that look alike when laid flat, have digests of their own."""
    deep = parsed(nested(150))["a"]
    values: list[object] = [
        1,
        1.0,
        True,
        "1",
        0,
        0.0,
        -0.0,
        False,
        None,
        "",
        [],
        {},
        [[]],
        [{}],
        [[], []],
        BIG,
        2.0**64,
    ]
    names = {digest({"a": value}) for value in values} | {digest({"a": value, "deep": deep}) for value in values}
    assert len(names) == 2 * len(values)
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in names)


@pytest.mark.parametrize("value", [b"", b"x", (1,), {1}, {1: 2}, {None: 1}, object(), 1j])
@pytest.mark.parametrize("deep", [False, True])
def test_what_is_not_json_is_refused_by_the_writer(value: object, deep: bool) -> None:
    """A worker cannot publish what no other could read."""
    definitions = {"a": value, "b": parsed(nested(150)) if deep else 1}
    with pytest.raises(EnvelopeError, match="not JSON: "):
        digest(definitions)
    with pytest.raises(EnvelopeError, match="not JSON: "):
        encode(definitions, VERSION)


def test_definitions_that_hold_themselves_are_refused() -> None:
    """Endless nesting ends in an error."""
    endless: dict[str, object] = {}
    endless["a"] = [endless]
    with pytest.raises(EnvelopeError, match="endless"):
        digest(endless)


# --- what is refused --------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_garbage_is_an_envelope_error(garbage: bytes) -> None:
    """Any bytes, also behind a good header, raise only `EnvelopeError`."""
    for payload in (garbage, wrap(garbage), wrap(garbage, codec=b"j"), hand_made(garbage), wrap(b"")[:6] + garbage):
        with suppress(EnvelopeError):
            assert set(decode(payload, version=VERSION, limit=LIMIT)) == {"a"}


@given(st.recursive(VALUES, lambda inner: st.lists(inner, max_size=4)))
@settings(max_examples=300, deadline=None)
def test_any_json_where_nodes_should_be_is_an_envelope_error(nodes: object) -> None:
    """Flat definitions that do not fit together raise nothing else, and never end up inside themselves."""
    top: dict[str, object] = {"a": [], "b": 1}
    for laid in (nodes, [top], [top, nodes], [nodes, nodes], [top, [nodes], nodes]):
        with suppress(EnvelopeError):
            assert digest(decode(hand_made_json(laid), version=VERSION, limit=LIMIT))


@pytest.mark.parametrize("value", [1, BIG])
def test_every_truncation_is_refused(value: int) -> None:
    """A payload cut short at any byte, or followed by one, is refused."""
    payload = encode({"flags": [{"key": "a", "n": value}]}, VERSION)
    for length in range(len(payload)):
        refused(payload[:length])
    refused(payload + b"\0")
    refused(payload + payload)


@pytest.mark.parametrize("value", [1, BIG])
def test_a_changed_byte_never_changes_the_content(value: int) -> None:
    """Each byte changed to each other value is refused, or gives the same content."""
    definitions: dict[str, object] = {"flags": [{"key": "a", "n": value}]}
    payload = encode(definitions, VERSION)
    unharmed = 0
    for place in range(len(payload)):
        for byte in set(range(256)) - {payload[place]}:
            broken = payload[:place] + bytes([byte]) + payload[place + 1 :]
            try:
                assert same(decode(broken, version=VERSION, limit=LIMIT), definitions)
            except EnvelopeError:
                continue
            unharmed += 1
    assert unharmed < 256  # the bits that zlib leaves unused, no more


def test_another_content_is_refused() -> None:
    """A whole and well-formed payload is refused where another version is expected."""
    payload = encode({"flags": []}, VERSION)
    with pytest.raises(EnvelopeError, match="another version"):
        decode(payload, version=VERSION[::-1], limit=LIMIT)
    with pytest.raises(EnvelopeError, match="another version"):
        decode(encode({"flags": [BIG]}, VERSION), version="", limit=LIMIT)


@pytest.mark.parametrize("number", [0, FORMAT + 1, 255])
def test_another_format_is_refused(number: int) -> None:
    """A payload of a newer format is refused by its number."""
    refused(wrap(msgpack.packb([VERSION, {}]), number=number), f"format {number};")


def test_the_limit_is_of_the_unpacked_size() -> None:
    """A body of exactly the limit is read; with one byte less it is not even unpacked."""
    definitions: dict[str, object] = {"a": "x" * 1000}
    payload = encode(definitions, VERSION)
    size = int.from_bytes(payload[2:6], "big")
    assert 1000 < size < 1100
    assert decode(payload, version=VERSION, limit=size) == definitions
    refused(payload, "the limit is", limit=size - 1)
    refused(payload[:6] + b"no zlib at all", "the limit is", limit=size - 1)


def test_bombs_are_not_unpacked() -> None:
    """A body that grows beyond its declared size is stopped there, whatever it declares."""
    bomb = b"\0" * 64_000_000
    lies, honest, nested_bomb = wrap(bomb, size=100), wrap(bomb), wrap(zlib.compress(bomb), size=100)
    with at_most(1):
        refused(lies, "size")
        refused(honest, "the limit is", limit=1_000_000)
        refused(nested_bomb, "size")
        refused(wrap(b"", size=2**32 - 1), "the limit is")


def test_a_list_that_claims_to_be_long_takes_no_room() -> None:
    """Lists inside lists that each claim a million items, with none of them there, are refused at the first."""
    hollow = hand_made(b"\xdd\x00\x10\x00\x00" * 1000 + b"\0" * 1_100_000)
    with at_most(4):
        refused(hollow)


@pytest.mark.parametrize("crowd", ["maps", "lists", "nodes"])
def test_a_crowd_of_tiny_containers_is_refused(crowd: str) -> None:
    """A million empty containers, of a megabyte or three, are refused before they take their eighty megabytes."""
    if crowd == "nodes":
        payload = wrap(f'["{VERSION}",[{{"a":[]}},[{"[]," * 500_000}0]{",[]" * 500_000}]]'.encode(), codec=b"j")
    else:
        empty = b"\x80" if crowd == "maps" else b"\x90"
        payload = hand_made(b"\x9f" + (b"\xdc\xff\xff" + empty * 65_535) * 15)
    with at_most(30):
        refused(payload, "more than 1.* containers", limit=3_100_000)


def test_a_crowd_within_reason_is_read() -> None:
    """Bytes in text that look like containers in msgpack are not counted as such."""
    definitions: dict[str, object] = {"a": "Übergröße ␀ 測試" * 10_000, "b": [{} for _ in range(60_000)]}
    payload = encode(definitions, VERSION)
    assert decode(payload, version=VERSION, limit=1_000_000) == definitions


def test_hand_made_payloads_are_well_formed() -> None:
    """What the tests around this one put in place of `1` is all that is wrong with theirs."""
    assert decode(hand_made(b"\x01"), version=VERSION, limit=LIMIT) == {"a": 1}
    assert decode(hand_made_json([{"a": list[int]()}, [1]]), version=VERSION, limit=LIMIT) == {"a": [1]}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xc4\x00", id="empty bin 8"),
        pytest.param(b"\xc5\x00\x00", id="empty bin 16"),
        pytest.param(b"\xc6\x00\x00\x00\x00", id="empty bin 32"),
        pytest.param(b"\x91\x81\xa1b\xc4\x00", id="empty bin inside"),
        pytest.param(b"\x81\xc4\x00\x01", id="empty bin as a key"),
        pytest.param(b"\xc4\x01x", id="bin"),
        pytest.param(b"\x81\xc4\x01x\x01", id="bin as a key"),
        pytest.param(b"\xc7\x00\x05", id="empty ext"),
        pytest.param(b"\xd4\x05x", id="ext"),
        pytest.param(b"\xc7\x00\xff", id="empty timestamp"),
        pytest.param(b"\xd6\xff\x00\x00\x00\x01", id="timestamp 32"),
        pytest.param(b"\xd7\xff" + b"\x00" * 8, id="timestamp 64"),
        pytest.param(b"\xc7\x0c\xff" + b"\x00" * 12, id="timestamp 96"),
        pytest.param(b"\x81\x01\x01", id="int key"),
        pytest.param(b"\x81\xc0\x01", id="nil key"),
        pytest.param(b"\x81\xc3\x01", id="bool key"),
        pytest.param(b"\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01", id="nan key"),
        pytest.param(b"\x81\x90\x01", id="list as a key"),
        pytest.param(b"\xc1", id="no type at all"),
        pytest.param(b"\xa1\xff", id="no UTF-8"),
        pytest.param(b"\x91" * 5000, id="deeper than any stack"),
        pytest.param(b"\x91" * 5000 + b"\x01", id="deeper than any stack, and whole"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="map that claims to be large"),
        pytest.param(b"\x01\x01", id="one value too many"),
        pytest.param(b"", id="no value"),
    ],
)
def test_msgpack_that_is_not_json_is_refused(content: bytes) -> None:
    """Only JSON's own types come out of a payload, whatever other types are in it."""
    refused(hand_made(content))


def test_numbers_that_look_like_empty_bytes_are_read() -> None:
    """The bytes of an empty bin may stand in numbers and texts."""
    definitions: dict[str, object] = {"a": [0xC400, 0xC50000, 0xC600000000, "Ā\0" * 3], "b" * 0xC4: "\0" * 0xC4}
    payload = encode(definitions, VERSION)
    body = zlib.decompress(payload[6:])
    assert all(spelling in body for spelling in (b"\xc4\x00", b"\xc5\x00\x00", b"\xc6\x00\x00\x00\x00"))
    assert same(decode(payload, version=VERSION, limit=LIMIT), definitions)


@pytest.mark.parametrize("body", [[VERSION], [VERSION, []], [VERSION, None], [VERSION, {}, 1], [1, {}], {}, VERSION, 1])
def test_a_body_of_another_shape_is_refused(body: object) -> None:
    """A body is a version and a dict, in both codecs."""
    refused(wrap(msgpack.packb(body)))
    refused(wrap(json.dumps(body).encode(), codec=b"j"))


@pytest.mark.parametrize(
    "nodes",
    [
        {},
        {"a": {}},
        list[object](),
        [list[object]()],
        [{}, {}],
        [{"a": []}],
        [{"a": {}}],
        [{"a": [1]}, [1]],
        [{}, {"a": []}],
        [{"a": []}, 1],
        [{"a": []}, [], []],
        [{"a": [], "b": []}, {}],
    ],
)
def test_flat_definitions_that_do_not_fit_are_refused(nodes: object) -> None:
    """Each place has its container and each container its place, or the payload is refused."""
    refused(hand_made_json(nodes))


def test_json_deeper_than_the_stack_is_refused() -> None:
    """Nesting in the place of flat nodes raises only `EnvelopeError`."""
    refused(wrap(b"[" * 60_000, codec=b"j"))
    refused(wrap(b'["' + VERSION.encode() + b'",' + b"[" * 30_000 + b"]" * 30_000 + b"]", codec=b"j"))


@pytest.mark.parametrize("payload", [None, "text", 1, [1]])
def test_what_is_no_bytes_is_refused(payload: object) -> None:
    """A store that hands out something else than bytes is answered like one that hands out garbage."""
    refused(cast("bytes", payload))


def test_messages_hold_no_data() -> None:
    """Neither the message nor the exceptions behind it hold a byte of what could not be read."""
    for payload in (
        hand_made(b"\xa6secret\xa6secret"),
        wrap(b'["secret', codec=b"j"),
        wrap(b"secret\xff", codec=b"j"),
        wrap(msgpack.packb(["secret", {}])),
    ):
        with pytest.raises(EnvelopeError) as caught:
            decode(payload, version=VERSION, limit=LIMIT)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("nested", [False, True], ids=["msgpack", "json"])
def test_what_was_written_is_verified_as_it_will_be_read(*, nested: bool) -> None:
    """`verify` refuses what `decode` refuses: another version, too large a body, too many containers, a lost byte."""
    flags: list[object] = [{"key": f"f{number}", "filters": {"groups": [{}]}} for number in range(100)]
    for _ in range(200 if nested else 0):
        flags = [flags]
    definitions: dict[str, object] = {"flags": flags}
    version = digest(definitions)
    payload = encode(definitions, version)
    verify(payload, version=version, limit=LIMIT)
    many: list[object] = [{} for _ in range(65_000)]
    crowded = encode({"flags": many, "more": many}, version)
    for broken, expected, limit in (
        (payload, "another", LIMIT),
        (payload, version, 1024),
        (payload[:-1], version, LIMIT),
        (crowded, version, 140_000),
    ):
        for read in (verify, decode):
            with pytest.raises(EnvelopeError):
                read(broken, version=expected, limit=limit)


def test_verifying_holds_no_second_copy() -> None:
    """What verifies a payload needs little more memory than its unpacked bytes; `decode` makes objects of them."""
    definitions = {"flags": [{"key": f"f{number}", "filters": {"groups": [{"n": number}]}} for number in range(5_000)]}
    version = digest(definitions)
    payload = encode(definitions, version)
    peaks = []
    for read in (verify, decode):
        tracemalloc.start()
        read(payload, version=version, limit=LIMIT)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < peaks[1] / 3
