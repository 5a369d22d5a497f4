"""What the engine needs to know of a vendor's definitions, and the only words in which it may ask.

A provider package (see `providers/README.md`) implements `Vendor` once; the engine never looks inside definitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from flagcache.stores.base import Scope

__all__ = ["Definitions", "FetchResult", "Fetched", "Fetcher", "Refused", "Unchanged", "Vendor"]

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


@dataclass(frozen=True, slots=True)
class Fetched:
    """The vendor sent definitions."""

    definitions: Definitions
    """Checked by `Vendor.check`."""
    etag: str
    """Names this very content to the vendor; empty if it sent none."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The vendor said that the definitions which the entity tag names are still right."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The fetch failed."""

    reason: str
    """For people; shows no key."""
    scope: Scope
    """Whether it would fail for every worker, or only for this one."""
    status: int = 0
    """The HTTP status; 0 where there was no answer."""
    retry_after: float | None = None
    """Seconds after which the vendor asked to be asked again."""


FetchResult: TypeAlias = "Fetched | Unchanged | Refused"


class Fetcher(Protocol):
    """Fetches definitions from the vendor. Thread-safe; connects to nothing before it is asked to fetch."""

    def fetch(self, etag: str) -> FetchResult:
        """Make one request, conditional where `etag` is not empty, and return within its total time. Never raises."""
        ...

    def cancel(self) -> None:
        """End a fetch under way, from another thread; it returns `Refused` soon."""
        ...
