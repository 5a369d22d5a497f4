"""Abilities that only some stores have, beyond the verbs of `flagcache.stores.base.Store`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from flagcache.stores.base import Notice

__all__ = ["EvictsKeys", "Forgets", "ProvesWrites", "SendsNotices", "Subscribable", "Subscription"]


@runtime_checkable
class EvictsKeys(Protocol):
    """A store that may delete what it holds to make room for other data."""

    def eviction_policy(self) -> str:
        """Return the name of its rule, as in the server's documentation; empty if the server doesn't say."""
        ...


@runtime_checkable
class Forgets(Protocol):
    """A store that outlives the processes that use it."""

    def forget(self) -> bool:
        """Delete everything of the namespace, including the epoch; return whether there was anything.

        Processes that hold definitions may bring them back.
        """
        ...


@runtime_checkable
class ProvesWrites(Protocol):
    """A store that proves with any reply, after it refused a write, that it takes writes again."""

    proves: tuple[str, ...]
    """The kinds of refusal (of `StoreError`) that a reply disproves."""
    refuses: bool
    """Whether it refused a write with such a kind, and has taken none since."""


@runtime_checkable
class SendsNotices(Protocol):
    """A store whose verbs work without the right to send notices, and that reports if the right is missing."""

    push_refused: str | None
    """Why the latest notice was refused, with the missing right; empty if it was sent, None if none was due yet."""


class Subscription(Protocol):
    """A live stream of notices. From the moment it exists no notice is missed, until it raises."""

    def get(self, timeout: float) -> Notice | None:
        """Wait up to `timeout` seconds for a notice; returns None if none came.

        Raises `StoreError` if the stream is lost.
        """
        ...

    def close(self) -> None:
        """End the stream; wakes a `get` under way."""
        ...


@runtime_checkable
class Subscribable(Protocol):
    """A store that can also send notices of changes."""

    def subscribe(self) -> Subscription:
        """Open a stream of notices."""
        ...
