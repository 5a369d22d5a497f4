"""Unpacks the body of a payload: msgpack piece by piece, so that it needs no block of memory of the body's size.

Nothing in the body is trusted: see `flagcache.encoding.payload`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import msgpack

from flagcache.encoding.memory_limit import MsgpackMemory
from flagcache.encoding.pieces import TEXT
from flagcache.encoding.shape import measure
from flagcache.errors import EnvelopeError, UnreadableHereError

__all__ = ["LONGEST", "inflate", "read_msgpack"]

# Items that a msgpack list may have. Before 1.2 msgpack reserves memory for all the items that a list announces, at
# each of 1,024 levels: a payload of 16 kB, 16 MiB unpacked, kept it busy for 20 seconds.
LONGEST = 0xFFFF

_EMPTY_BIN = (b"\xc4\x00", b"\xc5\x00\x00", b"\xc6\x00\x00\x00\x00")

_PIECE = 64 * 1024
"""Bytes that are unpacked at a time."""


def inflate(packed: memoryview, size: int) -> bytes:
    """Unpack a zlib stream that ends where these bytes end.

    Raises:
        EnvelopeError: it is broken, or not exactly of this size. No more than that is unpacked.
    """
    stream = zlib.decompressobj()
    # One byte more than the size: shows a bomb with a wrong size, and lets the stream end.
    body = stream.decompress(packed, size + 1)
    if not stream.eof or stream.unused_data or len(body) != size:
        raise _not_of_its_size()
    return body


def read_msgpack(packed: memoryview, size: int, most: int, *, memory: int, keep: bool = True) -> object:
    """Unpack a body of exactly this size, piece by piece.

    Args:
        packed: As for `inflate`.
        size: As for `inflate`.
        most: How many containers it may have.
        memory: How many bytes of memory its objects may take.
        keep: If False, an empty dict replaces each container, and an empty `bytes` passes.
    """
    # A container has at least one byte, so only a large body can hold too many. The hook adds half to the time.
    count = _counter(most) if size > most else None
    body = _Inflating(packed, size + 1, MsgpackMemory(size, memory))
    unpacker = msgpack.Unpacker(
        body,
        read_size=_PIECE,
        max_buffer_size=max(_PIECE, size),
        object_hook=count if keep else _emptying(count),
        list_hook=count,
        raw=False,
        unicode_errors=TEXT,
        strict_map_key=True,
        max_array_len=LONGEST,
        max_bin_len=0,
        max_ext_len=0,
        ext_hook=_refuse_extension,
    )
    content: object = unpacker.unpack()
    rest = body.read(1)  # also lets the stream end
    if rest or body.unpacked != size or unpacker.tell() != size or not body.has_ended:
        raise _not_of_its_size()
    # That leaves b"" as the one value that is not JSON. On 2,000 flags (1.2 MB) the search for its three encodings adds
    # a fifth to the time of unpacking, and a walk through the values doubles it. So we walk only if a number looks like
    # b"".
    if keep and body.spells_bin:
        measure({"": content})
    return content


class _Inflating:
    """A zlib stream as a file, which unpacks no more than is read.

    Args:
        packed: The stream.
        most: Bytes to unpack at most.
        memory: Counts the memory of their objects before they are made.
    """

    def __init__(self, packed: memoryview, most: int, memory: MsgpackMemory) -> None:
        self._packed = packed
        self._most = most
        self._memory = memory
        self._stream = zlib.decompressobj()
        self._end = b""
        self.unpacked = 0
        """Bytes unpacked so far."""
        self.spells_bin = False
        """Whether an empty `bytes`, or something that looks like one, was among them."""

    def read(self, size: int) -> bytes:
        """Return at most this many bytes; none if there are no more."""
        size = min(size, self._most - self.unpacked)
        unpacked = b""
        while size and not unpacked and not self._stream.eof and (packed := self._next()):
            unpacked = self._stream.decompress(packed, size)
        self.unpacked += len(unpacked)
        self._memory.add(unpacked)
        if not self.spells_bin:
            seen = self._end + unpacked
            self.spells_bin = any(spelling in seen for spelling in _EMPTY_BIN)
            self._end = seen[1 - len(_EMPTY_BIN[-1]) :]
        return unpacked

    @property
    def has_ended(self) -> bool:
        """Whether the stream has ended together with the packed bytes."""
        return self._stream.eof and not self._stream.unused_data and not self._packed

    def _next(self) -> bytes | memoryview:
        if self._stream.unconsumed_tail:
            return self._stream.unconsumed_tail
        piece, self._packed = self._packed[:_PIECE], self._packed[_PIECE:]
        return piece


def _not_of_its_size() -> EnvelopeError:
    return EnvelopeError("the payload is truncated, followed by something, or not of the size that it says")


def _counter(most: int) -> Callable[[object], object]:
    """Return a hook that msgpack calls with each complete container."""
    left = most

    def count(container: object) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise UnreadableHereError(f"the payload holds more than {most} containers")
        return container

    return count


def _emptying(count: Callable[[object], object] | None) -> Callable[[object], object]:
    """Return a hook that replaces each container by one empty dict, so that none stays in memory."""
    nothing: dict[str, object] = {}

    def empty(container: object) -> object:
        if count is not None:
            count(container)
        return nothing

    return empty


def _refuse_extension(_code: int, _data: bytes) -> None:
    raise EnvelopeError("the payload holds a msgpack extension")
