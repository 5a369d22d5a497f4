"""The values that a store's verbs take and return: definitions with their metadata, and grants."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Envelope", "Grant", "Meta", "Order"]


class Order(NamedTuple):
    """The order of contents: a higher epoch is newer, then a higher `as_of`."""

    epoch: int
    as_of: int


class Meta(NamedTuple):
    """The metadata of definitions."""

    version: str
    """Digest of the definitions, which always names the same content."""
    epoch: int
    """Raised only by people."""
    as_of: int
    """When the fetch that brought or last confirmed them was granted.

    Decides which are newer; may be ahead of a stepped clock.
    """
    changed_at: int
    """When the fetch that first brought this content was granted."""
    confirmed_at: int
    """When the latest fetch that found this content at the vendor was granted."""
    etag: str = ""
    """The vendor's entity tag of this content; empty if it is not known."""
    writer: str = ""
    """Which library wrote them, e.g. `posthog-python/7.91.1`."""
    project: str = ""
    """The vendor's project that they belong to; empty if it is not known."""
    stamp: str = ""
    """The signed `epoch`, `as_of` and `confirmed_at` of this version, if the fleet has a key; each confirmation makes
    another."""

    @property
    def order(self) -> Order:
        """The order of this content among others of its namespace."""
        return Order(self.epoch, self.as_of)


class Envelope(NamedTuple):
    """Encoded definitions and their metadata."""

    meta: Meta
    payload: bytes


class Grant(NamedTuple):
    """The store's permission to fetch once."""

    epoch: int
    as_of: int
    """The order of the definitions that this fetch brings."""
    at: int
    """The store's clock when it was given."""
