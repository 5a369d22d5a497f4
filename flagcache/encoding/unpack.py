"""The body of a payload, unpacked: in msgpack piece by piece, so that no block of its size is taken.

What is unpacked is trusted in nothing: see `flagcache.encoding.payload`.
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

# Items that a msgpack list may have. Before 1.2 msgpack makes room for all that a list says it has before it sees one,
# and so at each of 1,024 levels: 16 kB of payload, 16 MiB unpacked, held it for 20 seconds.
LONGEST = 0xFFFF

_EMPTY_BIN = (b"\xc4\x00", b"\xc5\x00\x00", b"\xc6\x00\x00\x00\x00")

_PIECE = 64 * 1024
"""Bytes that are unpacked at a time."""


def inflate(packed: memoryview, size: int) -> bytes:
    """Unpack a zlib stream that ends where these bytes end.

    Raises:
        EnvelopeError: it is broken, or not exactly of this size. No more is unpacked than that.
    """
    stream = zlib.decompressobj()
    # One byte more than there should be: shows the bomb that lies about its size, and lets the stream come to its end.
    body = stream.decompress(packed, size + 1)
    if not stream.eof or stream.unused_data or len(body) != size:
        raise _not_of_its_size()
    return body


def read_msgpack(packed: memoryview, size: int, most: int, *, memory: int, keep: bool = True) -> object:
    """Unpack a body of exactly this size, piece by piece.

    Args:
        packed: As of `inflate`.
        size: As of `inflate`.
        most: How many containers it may have.
        memory: How many bytes of memory its objects may take.
        keep: If not, an empty dict stands in the place of each, and an empty `bytes` is let pass.
    """
    # A container takes a byte at least, so that only a large body can hold too many. The hook adds half to the time.
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
    rest = body.read(1)  # also lets the stream come to its end
    if rest or body.unpacked != size or unpacker.tell() != size or not body.has_ended:
        raise _not_of_its_size()
    # That leaves b"" as the one value that is not JSON. On 2,000 flags (1.2 MB) the search for its three spellings adds
    # a fifth to unpacking, where going through the values doubles it; that is left for when a number looks like one.
    if keep and body.spells_bin:
        measure({"": content})
    return content


class _Inflating:
    """A zlib stream as a file: no more is unpacked than is asked for.

    Args:
        packed: The stream.
        most: Bytes to unpack at most.
        memory: Counts what their objects take, before they are made.
    """

    def __init__(self, packed: memoryview, most: int, memory: MsgpackMemory) -> None:
        self._packed = packed
        self._most = most
        self._memory = memory
        self._stream = zlib.decompressobj()
        self._end = b""
        self.unpacked = 0
        """Bytes so far."""
        self.spells_bin = False
        """Whether an empty `bytes`, or what looks like one, was among them."""

    def read(self, size: int) -> bytes:
        """Return at most so many bytes; none if there are no more."""
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
        """Whether the stream has ended, where the packed bytes do."""
        return self._stream.eof and not self._stream.unused_data and not self._packed

    def _next(self) -> bytes | memoryview:
        if self._stream.unconsumed_tail:
            return self._stream.unconsumed_tail
        piece, self._packed = self._packed[:_PIECE], self._packed[_PIECE:]
        return piece


def _not_of_its_size() -> EnvelopeError:
    return EnvelopeError("the payload is truncated, followed by something, or not of the size that it says")


def _counter(most: int) -> Callable[[object], object]:
    """A hook that msgpack calls with each container, at its end."""
    left = most

    def count(container: object) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise UnreadableHereError(f"the payload holds more than {most} containers")
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
