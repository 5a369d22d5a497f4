"""One deadline for all that a command takes: connecting, logging in, every part of the reply.

redis-py bounds each read from a socket, so that a reply which trickles in may take for ever. Here the calling thread
has a deadline, and every socket of ours looks at it before it connects, sends or reads. No thread watches: what no
command is waiting for needs no bound.
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
"""The part of its time that a command is given once more when it finds its time over. A process that itself stood still
finds what it waited for lying ready."""

_TRICKLE = 1000
"""Bytes of a reply that make a command's time begin anew where silence counts. Less is a trickle, not a slow link."""

_HEAD = 4096
"""In so many bytes of a reply its longest part announces itself."""

_LARGE = 100_000
"""Bytes from which their number may be why a command took too long."""

_LENGTH = re.compile(rb"\$(\d{4,10})\r\n")


class Deadline:
    """When one command has to end, and what it has sent and received so far, in bytes.

    Args:
        seconds: for all of it; or, with `in_all`, without a word of a reply that says something.
        in_all: seconds for all of it, where a reply may take long as long as it comes.
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
        """Where the end cannot move beyond; None: it does not move."""
        self._counted = 0
        """Bytes received when the end moved last."""
        self._head = b""
        """The first bytes of the reply."""
        self.sending = 0
        """To be sent in all."""
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

    def note_received(self, part: bytes | memoryview) -> None:
        """This much of the reply came."""
        if self.received < _HEAD:
            self._head += bytes(part[:_HEAD])
        self.received += len(part)
        if self._latest is not None and self.received - self._counted >= _TRICKLE:
            self._counted = self.received
            self._ends = min(self._latest, monotonic() + self._seconds)

    def explanation(self) -> str:
        """Say what came of a command that took too long, if its size may be why; else nothing."""
        if self.received >= _TRICKLE:
            expected = max(map(int, _LENGTH.findall(self._head)), default=0)  # of the longest part, if it says so
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
    """Let all that this thread does on our sockets in here end within so many seconds."""
    thread, deadline = running_thread(), Deadline(seconds)
    before = thread.deadline
    try:
        thread.deadline = deadline
        yield
    finally:
        thread.deadline = before


def remaining(longest: float | None) -> float | None:
    """Return how many seconds the next step of this thread's command may take, at most `longest`.

    Raises:
        TimeoutError: none are left.
    """
    return running_thread().deadline.left(longest)


def _shown(number: int) -> str:
    """A number of bytes, for people."""
    if number < 1_000_000:
        return f"{number / 1000:.3g} kB"
    return f"{number / 1_000_000:.3g} MB"
