"""What the engine needs to know of a vendor's definitions, and the only words in which it may ask.

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
    """What distinguishes two sets of definitions: keys of flags, and names of what else they have."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    cohorts: tuple[str, ...] = ()
    """The ids of those that were added, removed or changed."""
    group_types: tuple[str, ...] = ()
    """The names of those that were added, removed or changed."""
    others: tuple[str, ...] = ()
    """The top-level keys of all else that changed."""

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
    """What is to be known of one vendor's definitions."""

    @property
    def name(self) -> str:
        """Of the vendor, as a trouble with it begins: `posthog`."""
        ...

    @property
    def writer(self) -> str:
        """Which library writes them here, e.g. `posthog-python/7.91.1`."""
        ...

    @property
    def keys(self) -> frozenset[str]:
        """The top-level keys that this library reads, and hands over when it has fetched; it drops all others."""
        ...

    def check(self, definitions: object) -> Definitions:
        """Return the definitions if the vendor's SDK can safely take them as they are; also those that a store carried.

        Raises:
            EnvelopeError: they are not shaped as definitions are.
        """
        ...

    def malformed(self, definitions: object) -> tuple[str, ...]:
        """Name what is malformed in what the vendor sent, and the SDK evaluates around."""
        ...

    def shared(self, definitions: Definitions) -> Definitions:
        """Return what stores carry of checked definitions: what older versions of this library accept too."""
        ...

    def empty(self) -> Definitions:
        """Definitions of no flags at all, which the SDK accepts as an answer."""
        ...

    def count(self, definitions: Definitions) -> int:
        """How many flags they have."""
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
    requests: int = 1
    """How many it took."""
    malformed: tuple[str, ...] = ()
    """As `Vendor.malformed`."""


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
    requests: int = 1
    """How many were made."""
    kind: str = ""
    """Without a status, what it was in one word: `unreachable`, `timeout`; with status 200 `malformed`."""

    def trouble(self, vendor: str) -> str:
        """Name it in one word: `posthog_401`, `posthog_timeout`; the quota alone has a name of its own."""
        if self.status == _QUOTA:
            return "quota"
        return f"{vendor}_{self.kind or self.status or 'failed'}"


FetchResult: TypeAlias = "Fetched | Unchanged | Refused"


class Fetcher(Protocol):
    """Fetches definitions from the vendor. Thread-safe; connects to nothing before it is asked to fetch."""

    def fetch(self, etag: str) -> FetchResult:
        """Make one request, conditional if `etag` is not empty, and return within its total time. Never raises.

        An unconditional one may be repeated once, at once, if its connection was dropped before an answer began.
        """
        ...

    def cancel(self) -> None:
        """End a fetch under way, from another thread; it returns `Refused` soon."""
        ...
