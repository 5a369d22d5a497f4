"""Events for definitions that a fleet cannot or must not share, and for the end of these failures.

Users import them from `flagcache.events`, and `KeysMissing` and `KeysRestored` from `flagcache.worker.compatibility`;
`flagcache.failures` says when such events are emitted.
"""

from __future__ import annotations

import logging

from flagcache.event import Event, Recovery, shown

__all__ = [
    "ForeignKey",
    "ForeignKeyGone",
    "ForeignProject",
    "ForeignProjectGone",
    "KeysMissing",
    "KeysRestored",
    "LateFetchRefused",
    "PayloadAccepted",
    "PayloadRefused",
    "PublicationAccepted",
    "PublicationRefused",
]


class PayloadRefused(Event):
    """The stored envelope or its definitions were malformed and were discarded, unless `deleted` is False."""

    version: str
    store: str
    reason: str
    lasted: float = 0.0
    empty: bool = False
    """True: clients have no flags."""
    kept: bool = False
    """True: they were left in the store, because only this process's limit, memory or stack is too small for them."""
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
    """The stored definitions are readable again."""

    store: str

    def __str__(self) -> str:
        return f"definitions in {self.store} are readable again after {shown(self.lasted)}"


class PublicationRefused(Event):
    """Readers would refuse what this process fetched, usually because it is too large: it is not published."""

    version: str
    reason: str
    lasted: float = 0.0
    _level = logging.ERROR

    def __str__(self) -> str:
        return (
            f"definitions {self.version[:8]} cannot be shared: {self.reason}; this process uses them, and every"
            " other process fetches for itself"
        )


class PublicationAccepted(Recovery):
    """This process's definitions can be shared again."""

    version: str

    def __str__(self) -> str:
        return f"definitions {self.version[:8]} can be shared; for {shown(self.lasted)} earlier ones could not"


class LateFetchRefused(Event):
    """A fetch of this process ended too late: the store had newer definitions, and refused these."""

    version: str
    store: str
    kept: bool = False
    """True: the stored definitions are older, but a later fetch whose answer is unknown may have found newer ones.
    This process uses its own until the next fetch is answered."""
    _level = logging.WARNING

    def __str__(self) -> str:
        what = f"a fetch that ended late brought definitions {self.version[:8]}"
        if self.kept:
            return f"{what}; {self.store} waits for a later fetch, and until then only this process uses them"
        return f"{what}; {self.store} has newer ones, so they are dropped"


class ForeignKey(Event):
    """The stored definitions are protected with a key that this process lacks, and no worker replaced them."""

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
            f" them and {_without(empty=self.empty, fetches=self.fetches)}; give all workers a common key"
        )


class ForeignKeyGone(Recovery):
    """The stored definitions are protected with a key of this process again."""

    store: str

    def __str__(self) -> str:
        return f"the definitions in {self.store} can be read again after {shown(self.lasted)}"


class ForeignProject(Event):
    """The namespace holds another project's definitions."""

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
            f" does not use those definitions and {alone}; give each project its own namespace, or if"
            f" theirs are no longer needed, run `flagcache clear STORE_URL {self.namespace}`"
        )


class ForeignProjectGone(Recovery):
    """The namespace no longer holds another project's definitions."""

    store: str

    def __str__(self) -> str:
        return f"the namespace no longer belongs to another project in {self.store}, after {shown(self.lasted)}"


class KeysMissing(Event):
    """Definitions of an older SDK lack keys that this process's SDK reads; it asks for a turn to fetch them."""

    store: str
    writer: str
    keys: tuple[str, ...]
    kept: bool
    """True: clients keep what they have. False: they use these, because this process has nothing better."""
    lasted: float = 0.0
    _level = logging.WARNING

    def __str__(self) -> str:
        found = f"definitions that {self.writer} wrote into {self.store} lack {', '.join(self.keys)}"
        then = "clients keep what they have" if self.kept else "clients use them all the same"
        return f"{found}; {then} until a newer SDK fetches"


class KeysRestored(Recovery):
    """The stored definitions have the missing keys again."""

    store: str

    def __str__(self) -> str:
        return f"definitions in {self.store} have all keys again after {shown(self.lasted)}"


def _without(*, empty: bool, fetches: bool) -> str:
    """What a process does if it can't use the stored definitions."""
    if fetches:
        return "has no flags, so it fetches for itself" if empty else "fetches for itself"
    return "has no flags" if empty else "keeps what it has"
