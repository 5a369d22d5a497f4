"""The engine's only interface to a vendor: its definitions, and how to fetch them.

A provider package (see `providers/README.md`) implements `Vendor` once; the engine never looks inside definitions.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from flagcache.event import listed
from flagcache.runtime.values import Value
from flagcache.stores.base import Scope

__all__ = ["Definitions", "Difference", "FetchResult", "Fetched", "Fetcher", "Refused", "Unchanged", "Vendor"]

Definitions: TypeAlias = "dict[str, object]"
"""One complete set of flag definitions, as JSON values. Never mutated: the vendor's SDK may hold the same objects."""


_QUOTA = 402


class Difference(NamedTuple):
    """The difference of two sets of definitions: keys of flags, and names of other parts."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    cohorts: tuple[str, ...] = ()
    """The ids of cohorts that were added, removed or changed."""
    group_types: tuple[str, ...] = ()
    """The names of group types that were added, removed or changed."""
    others: tuple[str, ...] = ()
    """The other top-level keys that changed."""

    def __str__(self) -> str:
        words = {
            "added": self.added,
            "removed": self.removed,
            "changed": self.changed,
            "cohorts changed:": self.cohorts,
            "group types changed:": self.group_types,
            "other keys changed:": self.others,
        }
        return "; ".join(f"{word} {listed(names)}" for word, names in words.items() if names) or "nothing changed"


class Vendor(Protocol):
    """What the engine needs to know of one vendor's definitions."""

    @property
    def name(self) -> str:
        """The vendor's name, with which its failures begin: `posthog`."""
        ...

    @property
    def writer(self) -> str:
        """The library that writes definitions here, e.g. `posthog-python/7.91.1`."""
        ...

    @property
    def keys(self) -> frozenset[str]:
        """The top-level keys that this library reads, and hands over when it has fetched; it drops all others."""
        ...

    def check(self, definitions: object) -> Definitions:
        """Return the definitions, fetched or from a store, if the vendor's SDK can safely use them as they are.

        Raises:
            EnvelopeError: they don't have the shape of definitions.
        """
        ...

    def malformed(self, definitions: object) -> tuple[str, ...]:
        """Name the malformed parts that the vendor sent and the SDK ignores."""
        ...

    def shared(self, definitions: Definitions) -> Definitions:
        """Return checked definitions in the form for stores, which older versions of this library accept too."""
        ...

    def empty(self) -> Definitions:
        """Return definitions without flags, which the SDK accepts as an answer."""
        ...

    def count(self, definitions: Definitions) -> int:
        """Return the number of flags."""
        ...

    def project(self, definitions: Definitions) -> str:
        """Return what they contain about the vendor's project, as words `aspect=value`; may be empty."""
        ...

    def difference(self, old: Definitions, new: Definitions) -> Difference:
        """Return which flags were added, removed and changed."""
        ...


class Fetched(NamedTuple):
    """The vendor sent definitions."""

    definitions: Definitions
    """Checked by `Vendor.check`."""
    etag: str
    """The vendor's entity tag of this content; empty if it sent none."""
    requests: int = 1
    """Number of requests."""
    malformed: tuple[str, ...] = ()
    """As `Vendor.malformed`."""


class Unchanged(Value):
    """The vendor answered that the definitions with this entity tag are still current."""


class Refused(NamedTuple):
    """The fetch failed."""

    reason: str
    """The reason; contains no key."""
    scope: Scope
    """Whether it would fail for every worker, or only for this one."""
    status: int = 0
    """The HTTP status; 0 if there was no answer."""
    retry_after: float | None = None
    """Seconds after which the vendor allows the next request."""
    requests: int = 1
    """Number of requests."""
    kind: str = ""
    """Without a status, the reason in one word: `unreachable`, `timeout`; with status 200 `malformed`."""

    def trouble(self, vendor: str) -> str:
        """Name it in one word: `posthog_401`, `posthog_timeout`; the quota alone has a name of its own."""
        if self.status == _QUOTA:
            return "quota"
        return f"{vendor}_{self.kind or self.status or 'failed'}"


FetchResult: TypeAlias = "Fetched | Unchanged | Refused"


class Fetcher(Protocol):
    """Fetches definitions from the vendor. Thread-safe; connects only in `fetch`."""

    def fetch(self, etag: str) -> FetchResult:
        """Make one request, conditional if `etag` is not empty, and return within its total time. Never raises.

        An unconditional one may be repeated once, at once, if its connection was dropped before an answer began.
        """
        ...

    def cancel(self) -> None:
        """End a fetch under way, from another thread; it returns `Refused` soon."""
        ...
