"""What only some stores can do or tell, beyond the verbs of `flagcache.stores.base.Store`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["ProvesWrites", "SendsNotices"]


@runtime_checkable
class ProvesWrites(Protocol):
    """A store whose every answer, after it refused a write, proves that it takes writes again."""

    proves: tuple[str, ...]
    """The kinds of refusal (of `StoreError`) of which that is so."""
    refuses: bool
    """Whether it refused a write in such a way, and has taken none since."""


@runtime_checkable
class SendsNotices(Protocol):
    """A store whose verbs work without the right to send notices, and that says when it is missing."""

    push_refused: str
    """Why the latest notice was refused, and which right is missing; empty if it was sent, or if none was due yet."""
