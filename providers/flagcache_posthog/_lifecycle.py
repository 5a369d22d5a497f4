"""Begin and end of a process, for the helpers of servers: these are told of processes, and not of clients.

Knows the clients that were attached to a cache; others load at their first evaluation, as ever. Nothing is raised: a
server's hook that fails would keep its worker from starting.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable

from posthog.client import Client

from flagcache.runtime import process
from flagcache.runtime.guard import guarded

__all__ = ["attached_clients", "load_clients", "remember", "say_goodbye"]

_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def remember(client: Client) -> None:
    """Note a client that was attached; it is held weakly, and forked children know it too."""
    _clients.add(client)


def attached_clients() -> list[Client]:
    """Those of this process that somebody still holds."""
    return list(_clients)


def load_clients(clients: Iterable[Client] | None = None) -> None:
    """Load every client that has no flags yet, all at once, and wait until that is done or has failed.

    Bounded by each cache's `cold_start_wait`, and by the fetch of a client that is to fetch itself.

    Args:
        clients: None: all attached ones of this process.
    """
    known = attached_clients() if clients is None else clients
    cold = [client for client in known if client.feature_flags is None and not client.disabled]
    others = [threading.Thread(target=_load, args=(client,), name="flagcache-load") for client in cold[1:]]
    for thread in others:
        thread.start()
    if cold:
        _load(cold[0])
    for thread in others:
        thread.join()


def say_goodbye() -> None:
    """Hand the leadership of every cache over: this process is about to end, and may not run its exit hooks."""
    process.leave()


def _load(client: Client) -> None:
    guarded(client.load_feature_flags, None, "a client could not be loaded before the first request")
