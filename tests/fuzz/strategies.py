"""Hostile values: of every type that a store can hold, and at the limits of arithmetic."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from typing import cast

from hypothesis import strategies as st

from flagcache.encoding.payload import encode
from flagcache_posthog.testing import make_definitions

__all__ = ["HOUR", "Forgery", "definitions", "notices", "numbers", "payloads", "texts", "versions"]

HOUR = 3_600_000
"""Milliseconds: a note of more than that is not believed."""


def _moments() -> st.SearchStrategy[bytes]:
    """Times around now, and up to years away, in milliseconds; none that makes a note last for minutes."""
    away = st.sampled_from([0, 1, -1, 5, 500, -500, 86_400_000, -86_400_000, 31_536_000_000, 10**12, -(10**12)])
    return away.map(lambda by: b"%d" % (time.time_ns() // 1_000_000 + by))


_ODD = [
    *(b"", b" ", b"-1", b"-0", b"0", b"1", b"00", b"1.5", b"1e3", b"1e308", b"1e309", b"nan", b"-nan", b"inf", b"-inf"),
    *(b"0x10", b"9007199254740991", b"9007199254740992", b"9007199254740993", b"18446744073709551616", b"9" * 400),
    *(b"true", b"None", b"\x00", b"\xff\xfe", b"1\x00", b" 1 ", b"1\n", b"+1", "١٢".encode(), b"open", b"done"),
]


def numbers() -> st.SearchStrategy[bytes]:
    """Values that may stand in the place of a number."""
    few = st.integers(0, 1000).map(lambda n: b"%d" % n)
    many = st.integers(HOUR + 1, 2**63).map(lambda n: b"%d" % n)
    return st.one_of(st.sampled_from(_ODD), _moments(), few, many, st.binary(max_size=30))


def texts() -> st.SearchStrategy[bytes]:
    """Values that may stand in the place of a text."""
    long = st.just(b"x" * 100_000)
    return st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode), long, _controls(), numbers())


def _controls() -> st.SearchStrategy[bytes]:
    """Texts that would begin a new line in a log, or control a terminal."""
    marks = st.sampled_from(["\n", "\r\n", "\x1b[2J", "\x7f", "\x00", "\u2028", "\u202e", "\x85"])
    return st.tuples(st.text(max_size=8), marks, st.text(max_size=8)).map(lambda parts: "".join(parts).encode())


def versions() -> st.SearchStrategy[bytes]:
    """Names of contents, well-formed and not."""
    return st.one_of(st.text("0123456789abcdef", min_size=32, max_size=32).map(str.encode), texts())


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, object]:
    """Objects that are nearly definitions: right keys, values of any type."""
    nearly = dict(cast("dict[str, object]", make_definitions(1)))
    for key in draw(st.lists(st.sampled_from([*nearly, "other"]), max_size=3)):
        nearly[key] = draw(_json)
    for key in draw(st.lists(st.sampled_from([*nearly]), max_size=2)):
        nearly.pop(key, None)
    if draw(st.booleans()) and isinstance(flags := nearly.get("flags"), list) and flags:
        flags.append(draw(_json))
    return nearly


@dataclass(frozen=True, slots=True)
class _Edit:
    """One change to bytes that are known only later."""

    kind: str
    where: float
    piece: bytes
    length: int

    def of(self, whole: bytes) -> bytes:
        place = min(int(self.where * len(whole)), max(0, len(whole) - 1))
        rest = whole[place:]
        return {
            "flip": whole[:place] + bytes([(rest[0] if rest else 0) ^ (self.length or 1)]) + rest[1:],
            "cut": whole[:place],
            "splice": whole[:place] + self.piece + rest[self.length :],
            "append": whole + self.piece,
            "repeat": whole + whole,
        }[self.kind]


_edits = st.builds(
    _Edit,
    st.sampled_from(["flip", "cut", "splice", "append", "repeat"]),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=40),
    st.integers(0, 255),
)


@st.composite
def _claiming(draw: st.DrawFn) -> bytes:
    """Payloads whose header claims something else than the body is: bombs, wrong sizes, wrong codecs."""
    body = draw(
        st.one_of(st.binary(max_size=200), st.sampled_from([b"\x00" * 3_000_000, b"\xdc\xff\xff" * 400, b"[" * 5000]))
    )
    size = draw(st.one_of(st.just(len(body)), st.integers(0, 2**32 - 1)))
    header = draw(st.sampled_from([1, 1, 1, 0, 2, 255])).to_bytes(1, "big") + draw(st.sampled_from([b"m", b"j", b"x"]))
    return header + size.to_bytes(4, "big") + (zlib.compress(body, 1) if draw(st.booleans()) else body)


@dataclass(frozen=True, slots=True)
class Forgery:
    """A payload in the making: some bytes, or an attacker's definitions, or the stored ones; then perhaps edited."""

    junk: bytes | None = None
    definitions: dict[str, object] | None = None
    edit: _Edit | None = None

    def of(self, stored: bytes, version: str) -> bytes:
        """Make the payload of this version, if these bytes are stored."""
        made = stored if self.definitions is None else encode(self.definitions, version)
        made = made if self.junk is None else self.junk
        return made if self.edit is None else self.edit.of(made)


def payloads() -> st.SearchStrategy[Forgery]:
    """Invalid payloads of every kind; some are well-formed, and have an attacker's own definitions."""
    return st.one_of(
        st.builds(Forgery, junk=st.binary(max_size=300) | _claiming()),
        st.builds(Forgery, edit=_edits),
        st.builds(Forgery, definitions=definitions(), edit=st.none() | _edits),
    )


def notices() -> st.SearchStrategy[bytes]:
    """What a worker may publish."""
    kinds = st.sampled_from([b"new", b"free", b"note", b"clear", b"", b"NEW", b"new new"])
    shaped = st.tuples(kinds, numbers(), versions()).map(b" ".join)
    return st.one_of(st.binary(max_size=300), shaped, st.just(b"new " * 100_000))
