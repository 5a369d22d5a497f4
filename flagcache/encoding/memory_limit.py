"""Limits the memory of the Python objects in a body, counted before they are made.

A body of an allowed size may hold millions of tiny values, each of which takes sixty bytes or more as an object. The
count is roughly what CPython needs, from 3.10 on. For real definitions it is twice as high, because equal keys are one
object.
"""

from __future__ import annotations

from flagcache.errors import UnreadableHereError

__all__ = ["MsgpackMemory", "check_json", "memory_for", "most_in_msgpack"]

_PER_BYTE = 16
"""Bytes of memory for each byte of the limit. Real definitions count as eleven for each of their bytes."""

_LEAST = 16 * 1024 * 1024
"""Bytes of memory that are allowed whatever the limit."""

_DENSEST_MSGPACK, _DENSEST_JSON = 110, 100
"""The most bytes of memory that one byte of a body counts as."""

_TEXT = 4
"""The most bytes of a character in a string that is not ASCII."""

_MAP, _ENTRY, _LIST, _SLOT, _STRING, _NUMBER = 232, 100, 72, 8, 64, 32
"""Bytes of memory for an object, or for one item of a map or list."""


def memory_for(limit: int) -> int:
    """Return how many bytes of memory the objects in a body may take, if the body may have `limit` bytes."""
    return max(_LEAST, _PER_BYTE * limit)


def most_in_msgpack(containers: int, values: int, size: int) -> int:
    """Return the most that `MsgpackMemory` can count for a body, without going through its bytes.

    Args:
        containers: maps and lists.
        values: in maps and lists, containers included. There are no more keys than values.
        size: bytes of the body.
    """
    return containers * _MAP + values * (_ENTRY + 2 * _STRING) + size * _TEXT


def check_json(body: bytes, memory: int) -> None:
    """Check a body in JSON. Brackets and commas inside strings count too, so the count may be too high.

    Raises:
        UnreadableHereError: its objects may take more than `memory` bytes.
    """
    if len(body) * _DENSEST_JSON <= memory:
        return
    counted = len(body) * (_TEXT + 1)  # also the text that is parsed
    counted += body.count(b"{") * _MAP + body.count(b":") * _ENTRY + body.count(b"[") * _LIST
    counted += body.count(b'"') // 2 * _STRING + body.count(b",") * (_SLOT + _NUMBER)
    if counted > memory:
        raise _too_much(memory)


class MsgpackMemory:
    """Counts the memory for the objects in a body in msgpack, which comes in pieces.

    Args:
        size: bytes of the body.
        memory: bytes that its objects may take.
    """

    def __init__(self, size: int, memory: int) -> None:
        self._memory = memory
        self._counts = size * _DENSEST_MSGPACK > memory
        self.counted: int = 0
        """Bytes of memory so far."""
        self._skip = 0
        """Bytes at the beginning of the next piece that are the rest of a value."""
        self._head = b""
        """The beginning of a value whose length is in the next piece."""

    def add(self, piece: bytes) -> None:
        """Count the values in the next piece.

        Raises:
            UnreadableHereError: the objects take more than they may.
        """
        if not self._counts:
            return
        data, sizes, costs = self._head + piece, _SIZES, _COSTS  # local: looked up for each value
        position, end, counted = self._skip, len(data), self.counted
        while position < end:
            first = data[position]
            counted += costs[first]
            if step := sizes[first]:
                position += step
                continue
            width = _WIDTHS[first]
            if position + width >= end:
                counted -= costs[first]
                break
            length = int.from_bytes(data[position + 1 : position + 1 + width], "big")
            counted += length * _PER_UNIT[first]
            position += 1 + width + (length if first in _TEXTS else 0)
        self._head = data[position:] if position < end else b""
        self._skip = max(0, position - end)
        self.counted = counted
        if counted > self._memory:
            raise _too_much(self._memory)


_TEXTS = frozenset({0xD9, 0xDA, 0xDB, 0xC4, 0xC5, 0xC6})
"""The first bytes of values that are followed by a length, and by as many bytes."""

_WIDTHS = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
"""How many bytes that length has; of lists and maps it is the number of their items."""

_PER_UNIT: dict[int, int] = {**dict.fromkeys(_TEXTS, _TEXT), 0xDC: _SLOT, 0xDD: _SLOT, 0xDE: _ENTRY, 0xDF: _ENTRY}
"""Memory for each of these bytes, or items."""

_NUMBERS = {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
"""Sizes of numbers that take more than their first byte."""


def _size_of(first: int) -> int:
    """Return the bytes of a value with this first byte, without its items; 0: that depends on what follows."""
    if 0xA0 <= first <= 0xBF:
        return 1 + first - 0xA0
    return 0 if first in _WIDTHS else _NUMBERS.get(first, 1)


def _cost_of(first: int) -> int:
    """Return the memory for a value with this first byte."""
    if 0x80 <= first <= 0x8F:
        return _MAP + _ENTRY * max(0, first - 0x80 - 5) if first > 0x80 else _LIST
    if 0x90 <= first <= 0x9F:
        return _LIST + _SLOT * (first - 0x90)
    if 0xA0 <= first <= 0xBF:
        length = first - 0xA0
        return 0 if length <= 1 else _STRING + (length if length < 16 else _TEXT * length // 2)
    if first in _NUMBERS or 0xE0 <= first < 0xFB:  # Python has one object of each number from -5 to 256
        return _NUMBER
    return {0xDE: _MAP, 0xDF: _MAP, 0xDC: _LIST, 0xDD: _LIST}.get(first, _STRING if first in _TEXTS else 0)


_SIZES: list[int] = [_size_of(first) for first in range(256)]
_COSTS: list[int] = [_cost_of(first) for first in range(256)]


def _too_much(memory: int) -> UnreadableHereError:
    return UnreadableHereError(f"the payload takes more than {memory} bytes of memory")
