"""One deadline for all that a command takes: connecting, logging in, every part of the reply.

redis-py bounds each read from a socket, so that a reply which trickles in may take for ever. Here the calling thread
has a deadline, and every socket of ours looks at it before it connects, sends or reads. No thread watches: what no
command is waiting for needs no bound.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator

from flagcache.runtime.clock import monotonic
from flagcache.runtime.threads import PerThread

__all__ = ["bounded", "remaining"]

_LAST_MOMENT = 0.05
"""The part of its time that a command is given once more when it finds its time over. A process that itself stood still
finds what it waited for lying ready."""


class _Deadline:
    ends = math.inf
    last_moment = 0.0


_deadline = PerThread(_Deadline)


@contextlib.contextmanager
def bounded(seconds: float) -> Generator[None]:
    """Let all that this thread does on our sockets in here end within so many seconds."""
    deadline = _deadline()
    before = deadline.ends, deadline.last_moment
    deadline.ends, deadline.last_moment = monotonic() + seconds, seconds * _LAST_MOMENT
    try:
        yield
    finally:
        deadline.ends, deadline.last_moment = before


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
