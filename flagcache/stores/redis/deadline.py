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

__all__ = ["Progress", "bounded", "note_received", "note_sending", "note_sent", "remaining"]

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


class Progress:
    """What a command has sent and received so far, in bytes."""

    def __init__(self, began: float, seconds: float, *, grows: bool) -> None:
        self._began = began
        self._seconds = seconds
        self._grows = grows
        self.sending = 0
        """To be sent in all."""
        self.sent = 0
        self.expected = 0
        """Of the longest part of the reply, as far as the reply says; 0: it does not."""
        self.received = 0

    def told(self) -> str:
        """Say what came of a command that took too long, if its size may be why; else nothing."""
        if self.received >= _TRICKLE:
            of = f" of {_shown(self.expected)}" if self.expected > self.received else ""
            what = f"only {_shown(self.received)}{of} came"
        elif self.sent < self.sending and self.sending >= _LARGE:
            what = f"only {_shown(self.sent)} of {_shown(self.sending)} could be sent"
        elif self.sending >= _LARGE:
            what = f"no answer to {_shown(self.sending)} that was sent"
        else:
            return ""
        seconds = f"{monotonic() - self._began:.2g}" if self._grows else f"{self._seconds:g}"
        return f"{what} within {seconds} s; a longer store_timeout gives it more time"


class _Deadline:
    ends = math.inf
    last_moment = 0.0
    silence = 0.0
    """Seconds by which the end moves with what is received; 0: it does not move."""
    latest = math.inf
    """Where the end cannot move beyond."""
    counted = 0
    """Bytes received when the end moved last."""
    progress = Progress(0.0, math.inf, grows=False)


_deadline = PerThread(_Deadline)


@contextlib.contextmanager
def bounded(seconds: float, *, in_all: float | None = None) -> Generator[Progress]:
    """Let all that this thread does on our sockets in here end within so many seconds.

    Args:
        seconds: for all of it; or, with `in_all`, without a word of a reply that says something.
        in_all: seconds for all of it, where a reply may take long as long as it comes.
    """
    deadline, now = _deadline(), monotonic()
    progress = Progress(now, seconds, grows=in_all is not None)
    before = dict(vars(deadline))
    try:
        deadline.ends, deadline.last_moment = now + seconds, seconds * _LAST_MOMENT
        deadline.silence, deadline.latest = (0.0, math.inf) if in_all is None else (seconds, now + in_all)
        deadline.counted, deadline.progress = 0, progress
        yield progress
    finally:
        vars(deadline).clear()
        vars(deadline).update(before)


def remaining(longest: float | None) -> float | None:
    """Return how many seconds the next step of this thread's command may take, at most `longest`.

    Raises:
        TimeoutError: none are left.
    """
    deadline = _deadline()
    if deadline.ends == math.inf:
        return longest
    left = deadline.ends - monotonic()
    if left <= 0:
        left, deadline.last_moment = deadline.last_moment, 0.0
        deadline.ends = monotonic() + left
    if left <= 0:
        raise TimeoutError("the command's time is over")
    return left if longest is None else min(left, longest)


def note_sending(number: int) -> None:
    """So many bytes of this thread's command are to be sent."""
    _deadline().progress.sending += number


def note_sent(number: int) -> None:
    """So many of them were."""
    _deadline().progress.sent += number


def note_received(part: bytes | memoryview) -> None:
    """This much of the reply came."""
    deadline = _deadline()
    progress = deadline.progress
    if progress.received < _HEAD:
        lengths = [int(digits) for digits in _LENGTH.findall(bytes(part[:_HEAD]))]
        progress.expected = max([progress.expected, *lengths])
    progress.received += len(part)
    if deadline.silence and progress.received - deadline.counted >= _TRICKLE:
        deadline.counted = progress.received
        deadline.ends = min(deadline.latest, monotonic() + deadline.silence)


def _shown(number: int) -> str:
    """A number of bytes, for people."""
    if number < 1_000_000:
        return f"{number / 1000:.3g} kB"
    return f"{number / 1_000_000:.3g} MB"
