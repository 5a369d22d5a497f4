"""Start and end of a process, for code that knows processes but not clients, such as the server helpers.

Before a client's first load, its reference to the cache is the only sign that it uses one. So these helpers search all
objects of the process, once at its start: 0.15 s for a million. If a cache still knows of no client, its first calls of
`ready` and the end of the process that made it do so again. Nothing here raises, because a failing server hook would
keep its worker from starting.
"""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, cast

from flagcache.runtime import process
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.threads import try_start
from flagcache_posthog._sdk import client_classes

if TYPE_CHECKING:
    from posthog.client import Client

__all__ = [
    "Cache",
    "attached_clients",
    "load_clients",
    "meet_keyless",
    "remember",
    "remember_cache",
    "remember_maker",
    "say_goodbye",
]


class Cache(Protocol):
    """What knows the clients that use it."""

    def meet(self, client: Client) -> None:
        """Record a client, and attach it if `auto_attach`. Never raises."""
        ...

    @property
    def met(self) -> bool:
        """Whether any client is known."""
        ...


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_caches: weakref.WeakSet[Cache] = weakref.WeakSet()
_makers: list[Callable[[], object]] = []


def remember(client: Client) -> None:
    """Note a client that was attached; it is held weakly, and forked children know it too."""
    _clients.add(client)


def remember_cache(cache: Cache) -> None:
    """Note a cache whose clients are to be found; it is held weakly, and forked children know it too."""
    _caches.add(cache)
    _at_end.pid = os.getpid()
    process.at_exit(_at_end)


def remember_maker(maker: Callable[[], object]) -> None:
    """Note what makes a process's client: for a framework that makes it when it is first needed."""
    if maker not in _makers:
        _makers.append(maker)


class _AtEnd:
    """Logs clients without a key when the process that made the caches ends. Its children do not pay for the search."""

    def __init__(self) -> None:
        self.pid = 0

    def leave(self) -> None:
        """As `AtExit.leave`."""
        if self.pid == os.getpid():
            meet_keyless()


_at_end = _AtEnd()


def attached_clients() -> list[Client]:
    """Those of this process that are still referenced."""
    return list(_clients)


def load_clients(clients: Iterable[Client] | None = None) -> None:
    """Load every client that has no flags yet, all at once, and wait until that is done or has failed.

    Bounded by each cache's `cold_start_wait`, and by the fetch of a client that is to fetch itself. Clients for which
    the system gives no thread are loaded one after the other.

    Args:
        clients: None: all of this process that were attached, or use a cache that attaches its clients.
    """
    if clients is None:
        for maker in _makers:
            log_exceptions(maker, None, "", "creating a client before its first use failed")
        log_exceptions(_attach_users, None, "", "searching for clients without flags failed")
    known = attached_clients() if clients is None else clients
    cold = [client for client in known if client.feature_flags is None and not client.disabled]
    threads = {client: threading.Thread(target=_load, args=(client,), name="flagcache-load") for client in cold[1:]}
    alone = [client for client, thread in threads.items() if try_start(thread)]
    for client in (*cold[:1], *alone):
        _load(client)
    for client, thread in threads.items():
        if client not in alone:
            thread.join()


def say_goodbye() -> None:
    """Hand over the lease of every cache, because this process is about to end and may run no exit hooks."""
    process.leave()


def meet_keyless() -> None:
    """Have the caches that know of no client meet those without a secret key: the SDK may never load these."""
    for cache, client in _users([cache for cache in _caches if not cache.met]):
        if not client.personal_api_key:
            cache.meet(client)


def _attach_users() -> None:
    for cache, client in _users(list(_caches)):
        cache.meet(client)


def _users(caches: list[Cache]) -> list[tuple[Cache, Client]]:
    """The clients that were made with these caches."""
    # By type: `isinstance` would run the code of proxies.
    kinds = client_classes()
    found = [cast("Client", thing) for thing in gc.get_objects() if issubclass(type(thing), kinds)] if caches else []
    return [(cache, client) for client in found for cache in caches if any(v is cache for v in vars(client).values())]


def _load(client: Client) -> None:
    log_exceptions(client.load_feature_flags, None, "", "loading a client before the first request failed")
