"""Which client the calling thread loads or polls for.

The SDK does not pass the client to its provider, so we derive it from the thread: it is a client's own `Poller`, or a
method of the client is on its stack (posthog 7.37.3 to 7.91.1). If another thread runs the call, because an event loop
runs on the calling one, the client is looked up first (`calling_for`). Only public names are used.
Invariant: a client that isn't in a call is never returned; a cache would be attached to a client that doesn't use it.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, cast

from flagcache.runtime.callers import thread_record
from flagcache_posthog._orphan_pollers import calling_thread, client_of
from flagcache_posthog._sdk import CLIENT_MODULES, is_client

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from posthog.client import Client

__all__ = ["calling_client", "calling_for"]


_CLIENT = object()
"""The name of our note in a thread's record."""


@contextmanager
def calling_for(client: Client | None) -> Generator[None]:
    """Inside the `with` block the running thread acts for a call of this client; None: the client is unknown."""
    notes = thread_record().notes
    before, notes[_CLIENT] = notes.get(_CLIENT), client
    try:
        yield
    finally:
        notes[_CLIENT] = before


def calling_client() -> Client | None:
    """Return the client for which the running thread calls; None if it is unknown.

    It is unknown if the caller isn't a client, or if the client's provider calls the cache on another thread.
    """
    client = cast("Client | None", thread_record().notes.get(_CLIENT)) or client_of(calling_thread())
    if client is not None:
        return client
    return next((owner for owner in _owners(inspect.currentframe()) if is_client(owner)), None)


def _owners(frame: FrameType | None) -> Iterator[object]:
    """Yield the first argument of each of the SDK's calls on this stack, the latest first: of a method, its object."""
    while frame is not None:
        code = frame.f_code
        if code.co_argcount and frame.f_globals.get("__name__") in CLIENT_MODULES:
            yield frame.f_locals.get(code.co_varnames[0])
        frame = frame.f_back
