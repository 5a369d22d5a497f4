"""Look-ups of host names, with a time limit for the callers.

Nothing can end the system's own look-up, which depends on name servers. So it runs on a thread that all callers for one
name share, and a caller whose time is over continues without it.
"""

from __future__ import annotations

import os
import socket

from flagcache.runtime.background_call import BackgroundCall

__all__ = ["addresses_of"]

_under_way: dict[tuple[int, str, int], BackgroundCall[list[str]]] = {}
"""The key includes the pid, because a forked child has none of its parent's threads."""


def addresses_of(host: str, port: int, longest: float | None) -> list[str]:
    """Return the addresses behind a host's name, in the order in which the system prefers them.

    Args:
        host: a name, or an address, which needs no look-up.
        port: of the server.
        longest: seconds to wait; None: no limit.

    Raises:
        SlowCallError: the look-up takes longer. It continues, and a later call for the same name waits for it too.
        socket.gaierror: there is no such name, or no name server answers.
    """
    if _is_address(host):
        return [host]
    key = os.getpid(), host, port
    mine = BackgroundCall(lambda: _looked_up(key), "lookup")
    shared = _under_way.setdefault(key, mine)
    if shared is mine:
        mine.start()
    return shared.wait(longest, f"looking up the name {host!r}")


def _looked_up(key: tuple[int, str, int]) -> list[str]:
    _, host, port = key
    try:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    except (UnicodeError, ValueError) as exc:
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is no host name") from exc
    finally:
        _under_way.pop(key, None)
    return [*dict.fromkeys(_text_of(sockaddr) for *_, sockaddr in found)]


def _text_of(sockaddr: tuple[object, ...]) -> str:
    """Return an address as text, with the interface that a link-local one needs."""
    address, scope = str(sockaddr[0]), sockaddr[3] if len(sockaddr) > 3 else 0
    return f"{address}%{scope}" if scope and "%" not in address else address


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except (OSError, UnicodeError, ValueError):
            continue
        return True
    return False
