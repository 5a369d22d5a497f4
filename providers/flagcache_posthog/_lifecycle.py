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
    "leave_fleet",
    "load_clients",
    "record_keyless_clients",
    "register_cache",
    "register_client",
    "register_client_factory",
]


class Cache(Protocol):
    """A cache that knows the clients that use it."""

    def record_client(self, client: Client) -> None:
        """Record a client, and attach it if `auto_attach`. Never raises."""
        ...

    @property
    def has_clients(self) -> bool:
        """Whether any client is known."""
        ...


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_caches: weakref.WeakSet[Cache] = weakref.WeakSet()
_client_factories: list[Callable[[], object]] = []


def register_client(client: Client) -> None:
    """Record an attached client; it is held weakly, and forked children know it too."""
    _clients.add(client)


def register_cache(cache: Cache) -> None:
    """Record a cache whose clients are searched for; it is held weakly, and forked children know it too."""
    _caches.add(cache)
    _exit_check.pid = os.getpid()
    process.at_exit(_exit_check)


def register_client_factory(factory: Callable[[], object]) -> None:
    """Record a function that creates a process's client, for a framework that creates it when it is first used."""
    if factory not in _client_factories:
        _client_factories.append(factory)


class _ExitCheck:
    """Logs clients without a key when the process that created the caches exits. Its children don't search."""

    def __init__(self) -> None:
        self.pid = 0

    def leave(self) -> None:
        """As `AtExit.leave`."""
        if self.pid == os.getpid():
            record_keyless_clients()


_exit_check = _ExitCheck()


def attached_clients() -> list[Client]:
    """Return the attached clients of this process that are still referenced."""
    return list(_clients)


def load_clients(clients: Iterable[Client] | None = None) -> None:
    """Load every client that has no flags yet, all at once, and wait until that is done or has failed.

    A load takes at most the cache's `cold_start_wait`, or one fetch if the client itself fetches. Clients for which the
    system refuses a thread are loaded one after the other.

    Args:
        clients: None: all clients of this process that are attached, or use a cache that attaches its clients.
    """
    if clients is None:
        for factory in _client_factories:
            log_exceptions(factory, None, "", "creating a client before its first use failed")
        log_exceptions(_record_clients, None, "", "searching for clients without flags failed")
    known = attached_clients() if clients is None else clients
    unloaded = [client for client in known if client.feature_flags is None and not client.disabled]
    threads = {client: threading.Thread(target=_load, args=(client,), name="flagcache-load") for client in unloaded[1:]}
    without_thread = [client for client, thread in threads.items() if try_start(thread)]
    for client in (*unloaded[:1], *without_thread):
        _load(client)
    for client, thread in threads.items():
        if client not in without_thread:
            thread.join()


def leave_fleet() -> None:
    """Give up the lease of every cache. For a process that is about to exit and may run no exit hooks."""
    process.leave()


def record_keyless_clients() -> None:
    """Record the clients without a secret key of caches that know no client: the SDK may never load such clients."""
    for cache, client in _clients_using([cache for cache in _caches if not cache.has_clients]):
        if not client.personal_api_key:
            cache.record_client(client)


def _record_clients() -> None:
    for cache, client in _clients_using(list(_caches)):
        cache.record_client(client)


def _clients_using(caches: list[Cache]) -> list[tuple[Cache, Client]]:
    """Return the clients that were created with these caches."""
    # By type: `isinstance` would run the code of proxies.
    classes = client_classes()
    found = [cast("Client", thing) for thing in gc.get_objects() if issubclass(type(thing), classes)] if caches else []
    return [(cache, client) for client in found for cache in caches if any(v is cache for v in vars(client).values())]


def _load(client: Client) -> None:
    log_exceptions(client.load_feature_flags, None, "", "loading a client before the first request failed")
