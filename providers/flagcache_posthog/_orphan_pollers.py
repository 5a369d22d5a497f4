"""Pollers of clients: which client a poller belongs to, and how orphan pollers are stopped.

If several threads load a new client at once, each starts a poller (posthog 7.91.1, client.py: `load_feature_flags`),
but the client only knows the last one. The others would run for the life of the process, also after
`client.shutdown()`, and lead and fetch without a client that uses it. They are ended here through public names:
`Poller.execute`, `Poller.stopped`.
"""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, cast

from flagcache.runtime.threads import patched_late
from flagcache_posthog._sdk import is_client, is_poller

if TYPE_CHECKING:
    from posthog.client import Client

__all__ = ["calling_thread", "client_of", "stop_orphan_poller"]


def client_of(thread: threading.Thread) -> Client | None:
    """Return the client that a thread polls for; None if the thread isn't a poller."""
    if not is_poller(thread):
        return None
    execute = cast("object", thread.execute)  # of no known type in the SDK
    client = getattr(execute, "__self__", None)
    return client if is_client(client) else None


def calling_thread() -> threading.Thread:
    """Return the running thread, as the object that started it.

    Once gevent has patched, `current_thread` returns a new object for a poller that was started before. The original
    is on the poller's stack.
    """
    frame = inspect.currentframe() if patched_late() else None
    while frame is not None:
        if frame.f_code.co_name == "run" and is_poller(thread := frame.f_locals.get("self")):
            return thread
        frame = frame.f_back
    return threading.current_thread()


def stop_orphan_poller(client: Client | None) -> bool:
    """If the calling thread is an orphan poller of this client, stop it after this poll.

    Returns:
        Whether it is one.
    """
    if client is None or client.poller is threading.current_thread():  # as a rule
        return False
    thread = calling_thread()
    if client_of(thread) is not client or client.poller is thread or not is_poller(thread):
        return False
    thread.stopped.set()
    return True
