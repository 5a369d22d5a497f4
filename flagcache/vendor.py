"""What the engine needs to know of a vendor's definitions, and the only words in which it may ask.

A provider package (see `providers/README.md`) implements `Vendor` once; the engine never looks inside definitions.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from flagcache.runtime.values import Value
from flagcache.stores.base import Scope

__all__ = ["Definitions", "Difference", "FetchResult", "Fetched", "Fetcher", "Refused", "Unchanged", "Vendor"]

Definitions: TypeAlias = "dict[str, object]"
"""One complete set of flag definitions, as JSON values. Never mutated: the vendor's SDK may hold the same objects."""


class Difference(NamedTuple):
    """What distinguishes two sets of definitions, by the keys of their flags."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.added)} added, {len(self.removed)} removed, {len(self.changed)} changed"


class Vendor(Protocol):
    """What is to be known of one vendor's definitions."""

    @property
    def writer(self) -> str:
        """Which library writes them here, e.g. `posthog-python/7.91.1`."""
        ...

    @property
    def keys(self) -> frozenset[str]:
        """The top-level keys that this library reads, and hands over when it has fetched; it drops all others."""
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
        """What they tell of the vendor's project that they belong to, as words `aspect=value`; maybe nothing."""
        ...

    def difference(self, old: Definitions, new: Definitions) -> Difference:
        """Which flags were added, removed and changed."""
        ...


class Fetched(NamedTuple):
    """The vendor sent definitions."""

    definitions: Definitions
    """Checked by `Vendor.check`."""
    etag: str
    """Names this very content to the vendor; empty if it sent none."""


class Unchanged(Value):
    """The vendor said that the definitions which the entity tag names are still right."""


class Refused(NamedTuple):
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
