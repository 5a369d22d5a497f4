"""What only some stores can do or tell, beyond the verbs of `flagcache.stores.base.Store`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["SendsNotices"]


@runtime_checkable
class SendsNotices(Protocol):
    """A store whose verbs work without the right to send notices, and that says when it is missing."""

    push_refused: str
    """Why the latest notice was refused, and which right is missing; empty if it was sent, or if none was due yet."""
