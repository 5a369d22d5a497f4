"""What only some stores can do or tell, beyond the verbs of `flagcache.stores.base.Store`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from flagcache.stores.base import Notice

__all__ = ["EvictsKeys", "Forgets", "ProvesWrites", "SendsNotices", "Subscribable", "Subscription"]


@runtime_checkable
class EvictsKeys(Protocol):
    """A store that may drop what it holds to make room for others."""

    def eviction_policy(self) -> str:
        """Name the rule by which it does so, as its documentation does; empty if it does not say."""
        ...


@runtime_checkable
class Forgets(Protocol):
    """A store that outlives those who use it."""

    def forget(self) -> bool:
        """Delete all that it has of the namespace, the epoch too; return whether it had anything.

        Processes that hold definitions may bring them back.
        """
        ...


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

    push_refused: str | None
    """Why the latest notice was refused, and which right is missing; empty if it was sent, None if none was due yet."""


class Subscription(Protocol):
    """A live stream of notices. From the moment it exists no notice is missed, until it raises."""

    def get(self, timeout: float) -> Notice | None:
        """Wait up to `timeout` seconds for a notice; None if none came. Raises `StoreError` if the stream is lost."""
        ...

    def close(self) -> None:
        """End the stream; wakes a `get` under way."""
        ...


@runtime_checkable
class Subscribable(Protocol):
    """A store that can also tell of changes."""

    def subscribe(self) -> Subscription:
        """Open a stream of notices."""
        ...
