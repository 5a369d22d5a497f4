"""What the engine needs to know of a vendor's definitions, and the only words in which it may ask.

A provider package (see `providers/README.md`) implements `Vendor` once; the engine never looks inside definitions.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

__all__ = ["Definitions", "Vendor"]

Definitions: TypeAlias = "dict[str, object]"
"""One complete set of flag definitions, as JSON values. Never mutated: the vendor's SDK may hold the same objects."""


class Vendor(Protocol):
    """What is to be known of one vendor's definitions."""

    @property
    def writer(self) -> str:
        """Which library writes them here, e.g. `posthog-python/7.91.1`."""
        ...

    def check(self, definitions: object) -> Definitions:
        """Return the definitions if the vendor's SDK can safely take them as they are.

        Raises:
            EnvelopeError: they are not shaped as definitions are.
        """
        ...

    def empty(self) -> Definitions:
        """Definitions of no flags at all, which the SDK accepts as an answer."""
        ...

    def project(self, definitions: Definitions) -> str:
        """Which of the vendor's projects they belong to; empty if that cannot be told."""
        ...
