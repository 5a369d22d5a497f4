"""The values that a store's verbs take and return: definitions with their metadata, and grants."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Envelope", "Grant", "Meta", "Order"]


class Order(NamedTuple):
    """What makes one content newer than another: the epoch first, then `as_of`."""

    epoch: int
    as_of: int


class Meta(NamedTuple):
    """All that is known of definitions but themselves."""

    version: str
    """Digest of the definitions. It always names the same content."""
    epoch: int
    """Raised only by people."""
    as_of: int
    """When the fetch that brought or last confirmed them was granted. It orders; it may be ahead of a stepped clock."""
    changed_at: int
    """When the fetch that first brought this content was granted."""
    confirmed_at: int
    """When the fetch that last found this content at the vendor was granted."""
    etag: str = ""
    """The vendor's entity tag of this very content, or nothing where it is not known."""
    writer: str = ""
    """Which library wrote them, e.g. `posthog-python/7.91.1`."""
    project: str = ""
    """Which of the vendor's projects they belong to, or nothing where it is not known."""
    stamp: str = ""
    """The signed `epoch`, `as_of` and `confirmed_at` of this version, if the fleet has a key; each confirmation makes
    another."""

    @property
    def order(self) -> Order:
        """The place of this content among others of its namespace."""
        return Order(self.epoch, self.as_of)


class Envelope(NamedTuple):
    """Encoded definitions and what is known of them."""

    meta: Meta
    payload: bytes


class Grant(NamedTuple):
    """The store's permission to fetch once."""

    epoch: int
    as_of: int
    """What the definitions that this fetch brings are to be stamped with."""
    at: int
    """The store's clock when it was given."""
