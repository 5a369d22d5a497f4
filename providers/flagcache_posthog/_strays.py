"""Pollers that their client has lost sight of, and their end.

Threads that load a cold client at once start a poller each (posthog 7.91.1, client.py: `load_feature_flags`); the
client knows the last alone. The others go on for the life of the process, also after `client.shutdown()`: members of
the fleet that would lead and fetch for nobody. They end here, by public names: `Poller.execute`, `Poller.stopped`.
"""

from __future__ import annotations

import threading
from typing import cast

from posthog.client import Client
from posthog.poller import Poller

__all__ = ["stray_of"]


def stray_of() -> Client | None:
    """Return the client whose lost poller the calling thread is, having told it to end after this poll; else None."""
    thread = threading.current_thread()
    if not isinstance(thread, Poller):
        return None
    execute = cast("object", thread.execute)  # of no known type in the SDK
    client = getattr(execute, "__self__", None)
    if not isinstance(client, Client) or client.poller is thread:
        return None
    thread.stopped.set()
    return client
