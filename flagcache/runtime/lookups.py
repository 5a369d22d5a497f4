"""Look-ups of host names that a caller waits for no longer than it may.

The system's own look-up takes as long as name servers let it, and nothing can end it. So it runs on a thread that all
callers for one name share, and a caller whose time is over goes on without it.
"""

from __future__ import annotations

import os
import socket
import threading

from flagcache.runtime.threads import make_event, try_start

__all__ = ["LookupTimeoutError", "wait_for_name"]


class LookupTimeoutError(TimeoutError):
    """The look-up of a name takes longer than its caller may wait."""


class _LookUp:
    """One look-up under way."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._over = make_event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Look the name up, on the calling thread."""
        try:
            socket.getaddrinfo(*self._address, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            self._error = exc
        finally:
            _under_way.pop((os.getpid(), *self._address), None)
            self._over.set()

    def wait(self, longest: float | None) -> bool:
        """Wait at most so many seconds; whether it is over. Raises what it failed with."""
        over = self._over.wait(longest)
        if self._error is not None:
            raise socket.gaierror(*self._error.args) from self._error
        return over


_under_way: dict[tuple[int, str, int], _LookUp] = {}
"""By process too: a forked child has none of its parent's threads."""


def wait_for_name(host: str, port: int, longest: float | None) -> None:
    """Wait until the system can look a host's name up; the next look-up is then expected to be as quick as this one.

    Args:
        host: a name, or an address, which needs no look-up.
        port: of the server.
        longest: seconds; None: without a bound.

    Raises:
        LookupTimeoutError: the look-up takes longer. It goes on, and a later call for the same name waits for it too.
        socket.gaierror: there is no such name, or no name server answers.
    """
    if _is_address(host):
        return
    mine = _LookUp(host, port)
    shared = _under_way.setdefault((os.getpid(), host, port), mine)
    if shared is mine and try_start(threading.Thread(target=mine.run, name="flagcache-lookup", daemon=True)):
        mine.run()
    if not shared.wait(longest):
        raise LookupTimeoutError(f"looking up the name {host!r} takes longer than {longest:.3g} s")


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except (OSError, UnicodeError, ValueError):
            continue
        return True
    return False
