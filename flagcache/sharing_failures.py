"""Events of definitions that a fleet cannot share, or must not, and of the end of that.

Users import them from `flagcache.events`; `flagcache.failures` says when such events are emitted.
"""

from __future__ import annotations

import logging

from flagcache.event import Event, Recovery, shown

__all__ = [
    "ForeignKey",
    "ForeignKeyGone",
    "ForeignProject",
    "ForeignProjectGone",
    "LateFetchRefused",
    "PayloadAccepted",
    "PayloadRefused",
    "PublicationAccepted",
    "PublicationRefused",
]


class PayloadRefused(Event):
    """The stored envelope or its definitions were malformed and have been discarded, unless `deleted` is False."""

    version: str
    store: str
    reason: str
    lasted: float = 0.0
    empty: bool = False
    """True: clients have no flags."""
    kept: bool = False
    """True: they were left there, because only this process's limit, memory or stack does not suffice for them."""
    fetches: bool = True
    """False: this process is a reader, which never fetches."""
    deleted: bool = True
    """False: this process did not delete them: it is a reader, or the store failed at that moment."""
    _level = logging.ERROR

    def __str__(self) -> str:
        if self.kept:
            return (
                f"definitions {self.version[:8]} in {self.store} cannot be read by this process: {self.reason}; it"
                f" leaves them to the others, and {_without(empty=self.empty, fetches=self.fetches)}"
            )
        kept = "clients have no flags" if self.empty else "clients keep what they have"
        if not self.deleted:
            return (
                f"definitions {self.version[:8]} in {self.store} are unreadable: {self.reason};"
                f" {'this process could not delete them' if self.fetches else 'a reader deletes nothing'}; {kept},"
                " until a worker stores readable ones"
            )
        return (
            f"definitions {self.version[:8]} in {self.store} are unreadable and were deleted: {self.reason};"
            f" {kept}, and a worker stores readable ones"
        )


class PayloadAccepted(Recovery):
    """What the store holds is readable again."""

    store: str

    def __str__(self) -> str:
        return f"definitions in {self.store} are readable again after {shown(self.lasted)}"


class PublicationRefused(Event):
    """Readers would refuse what this process fetched, mostly because it is too large: it is kept and not published."""

    version: str
    reason: str
    lasted: float = 0.0
    _level = logging.ERROR

    def __str__(self) -> str:
        return (
            f"definitions {self.version[:8]} cannot be shared: {self.reason}; this process uses them, and each other"
            " one fetches for itself"
        )


class PublicationAccepted(Recovery):
    """What this process holds can be shared again."""

    version: str

    def __str__(self) -> str:
        return f"definitions {self.version[:8]} can be shared, after {shown(self.lasted)} of others that could not"


class LateFetchRefused(Event):
    """A fetch of this process ended after others had moved on; what it brought was not published."""

    version: str
    store: str
    kept: bool = False
    """True: what the store has is older, but a later fetch, of which nothing is known, may have found newer
    definitions. This process goes on with its own until the next fetch is answered."""
    _level = logging.WARNING

    def __str__(self) -> str:
        what = f"a fetch that ended late brought definitions {self.version[:8]}"
        if self.kept:
            return f"{what}; {self.store} waits for a later fetch, and until then this process alone uses them"
        return f"{what}; {self.store} has newer ones, so they are dropped"


class ForeignKey(Event):
    """Others protect the definitions with a key that this process does not have, and nothing replaced them."""

    store: str
    lasted: float = 0.0
    empty: bool = False
    """True: clients have no flags."""
    fetches: bool = True
    """False: this process is a reader, which never fetches."""
    _level = logging.ERROR

    def __str__(self) -> str:
        return (
            f"the definitions in {self.store} are protected with a key that this process does not have: it does not use"
            f" them and {_without(empty=self.empty, fetches=self.fetches)}; give all workers one key in common"
        )


class ForeignKeyGone(Recovery):
    """The definitions are protected with a key of this process again."""

    store: str

    def __str__(self) -> str:
        return f"the definitions in {self.store} can be read again after {shown(self.lasted)}"


class ForeignProject(Event):
    """The namespace holds the definitions of another project."""

    store: str
    ours: str
    theirs: str
    lasted: float = 0.0
    empty: bool = False
    """True: clients have no flags."""
    fetches: bool = True
    """False: this process is a reader, which never fetches."""
    _level = logging.ERROR

    def __str__(self) -> str:
        alone = _without(empty=self.empty, fetches=self.fetches)
        return (
            f"the namespace belongs to another project in {self.store} ({self.theirs}; this process: {self.ours}): it"
            f" does not use those definitions and {alone}; give each project a namespace of its own, or if"
            f" theirs are of no more use, run `flagcache clear STORE_URL {self.namespace}`"
        )


class ForeignProjectGone(Recovery):
    """The namespace no longer holds the definitions of another project."""

    store: str

    def __str__(self) -> str:
        return f"the namespace no longer belongs to another project in {self.store}, after {shown(self.lasted)}"


def _without(*, empty: bool, fetches: bool) -> str:
    """What a process does that cannot use what is stored."""
    if fetches:
        return "has no flags, so it fetches for itself" if empty else "fetches for itself"
    return "has no flags" if empty else "keeps what it has"
