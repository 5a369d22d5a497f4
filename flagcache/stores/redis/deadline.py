"""One deadline for a whole command: connecting, logging in, every part of the reply.

redis-py limits each read from a socket, so a reply that trickles in has no limit. Here the calling thread has a
deadline, and our sockets check it before they connect, send or read. No other thread is needed, because a socket that
no command waits for needs no limit.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Generator

from flagcache.runtime.clock import monotonic
from flagcache.runtime.threads import PerThread

__all__ = ["Deadline", "bounded", "remaining", "running_thread"]

_LAST_MOMENT = 0.05
"""The part of its time that a command gets in addition, once, when its time is over. If the process itself was
suspended, the reply is already there."""

_TRICKLE = 1000
"""Bytes of a reply that restart a command's time if `in_all` is set. Fewer are a trickle, not a slow link."""

_HEAD = 4096
"""Bytes at the beginning of a reply that contain the length of its longest part."""

_LARGE = 100_000
"""From this many bytes on their number may be why a command took too long."""

_LENGTH = re.compile(rb"\$(\d{4,10})\r\n")


class Deadline:
    """The deadline of one command, and the bytes that it has sent and received so far.

    Args:
        seconds: for the whole command; with `in_all`, for a silence during the reply.
        in_all: seconds for the whole command, if a reply may be slow as long as it keeps coming.
    """

    __slots__ = (
        "_began",
        "_counted",
        "_ends",
        "_head",
        "_last_moment",
        "_latest",
        "_seconds",
        "received",
        "sending",
        "sent",
    )

    def __init__(self, seconds: float, *, in_all: float | None = None) -> None:
        self._seconds = seconds
        self._began = now = monotonic()
        self._ends = now + seconds
        self._last_moment = seconds * _LAST_MOMENT
        self._latest = None if in_all is None else now + in_all
        """The latest end; None: the end does not move."""
        self._counted = 0
        """Bytes received when the end last moved."""
        self._head = b""
        """The first bytes of the reply."""
        self.sending = 0
        """Bytes to be sent in all."""
        self.sent = 0
        self.received = 0

    def left(self, longest: float | None) -> float | None:
        """As `remaining`."""
        if self._ends == math.inf:
            return longest
        left = self._ends - monotonic()
        if left <= 0:
            left, self._last_moment = self._last_moment, 0.0
            self._ends = monotonic() + left
        if left <= 0:
            raise TimeoutError("the command's time is over")
        return left if longest is None or left < longest else longest

    def record_received(self, part: bytes | memoryview) -> None:
        """Record that bytes of the reply came."""
        if self.received < _HEAD:
            self._head += bytes(part[:_HEAD])
        self.received += len(part)
        if self._latest is not None and self.received - self._counted >= _TRICKLE:
            self._counted = self.received
            self._ends = min(self._latest, monotonic() + self._seconds)

    def explanation(self) -> str:
        """Return how far a command got that took too long, if its size may be why; else an empty text."""
        if self.received >= _TRICKLE:
            expected = max(map(int, _LENGTH.findall(self._head)), default=0)  # of the longest part, if known
            of = f" of {_shown(expected)}" if expected > self.received else ""
            what = f"only {_shown(self.received)}{of} came"
        elif self.sent < self.sending and self.sending >= _LARGE:
            what = f"only {_shown(self.sent)} of {_shown(self.sending)} could be sent"
        elif self.sending >= _LARGE:
            what = f"no answer to {_shown(self.sending)} that was sent"
        else:
            return ""
        seconds = f"{self._seconds:g}" if self._latest is None else f"{monotonic() - self._began:.2g}"
        return f"{what} within {seconds} s; a longer store_timeout gives it more time"


class _Thread:
    def __init__(self) -> None:
        self.deadline = Deadline(math.inf)


running_thread = PerThread(_Thread)
"""Returns the record that holds the running thread's deadline."""


@contextlib.contextmanager
def bounded(seconds: float) -> Generator[None]:
    """Limit what this thread does on our sockets in this block to this many seconds in all."""
    thread, deadline = running_thread(), Deadline(seconds)
    before = thread.deadline
    try:
        thread.deadline = deadline
        yield
    finally:
        thread.deadline = before


def remaining(longest: float | None) -> float | None:
    """Return the seconds that the next step of this thread's command may take, at most `longest`.

    Raises:
        TimeoutError: none are left.
    """
    return running_thread().deadline.left(longest)


def _shown(number: int) -> str:
    """Return a number of bytes, for people."""
    if number < 1_000_000:
        return f"{number / 1000:.3g} kB"
    return f"{number / 1_000_000:.3g} MB"
