"""What happened: one stream of small values, to which logs, metrics and users subscribe.

Events tell transitions, never ticks: a lasting trouble is one event, not one a poll.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from flagcache.event import Event, Recovery, shown
from flagcache.failures import (
    ColdStartExpired,
    ColdStartRecovered,
    DefinitionsFresh,
    DefinitionsStale,
    FetchFailed,
    FetchRecovered,
    QuotaLimited,
    QuotaRestored,
)
from flagcache.runtime.guard import guarded
from flagcache.sharing_failures import (
    ForeignKey,
    ForeignKeyGone,
    ForeignProject,
    ForeignProjectGone,
    LateFetchRefused,
    PayloadAccepted,
    PayloadRefused,
    PublicationAccepted,
    PublicationRefused,
)
from flagcache.store_failures import PushLost, PushRecovered, StoreLost, StoreRecovered
from flagcache.vendor import Difference

__all__ = [
    "ColdStartExpired",
    "ColdStartRecovered",
    "DefinitionsChanged",
    "DefinitionsFresh",
    "DefinitionsRepaired",
    "DefinitionsStale",
    "Event",
    "Events",
    "FetchFailed",
    "FetchRecovered",
    "FlagsRestored",
    "ForeignKey",
    "ForeignKeyGone",
    "ForeignProject",
    "ForeignProjectGone",
    "LateFetchRefused",
    "LeadershipLost",
    "LeadershipTaken",
    "PayloadAccepted",
    "PayloadRefused",
    "PublicationAccepted",
    "PublicationRefused",
    "PushLost",
    "PushRecovered",
    "QuotaLimited",
    "QuotaRestored",
    "Recovery",
    "StoreLost",
    "StoreRecovered",
]

_NOTHING = Difference()

_MANY = 10
"""Of so many flags it is a warning if more than half go at once."""


class _Leadership(Event):
    store: str
    quiet: bool = False
    """True: this process logged such an event less than a minute ago. When that is over, the log says what is so."""

    @property
    def level(self) -> int:
        """DEBUG if it is quiet."""
        return logging.DEBUG if self.quiet else logging.INFO


class LeadershipTaken(_Leadership):
    """This process now asks the vendor for its fleet."""

    def __str__(self) -> str:
        return f"this process leads the fleet on {self.store}"


class LeadershipLost(_Leadership):
    """Another process does so from now on, or nobody."""

    def __str__(self) -> str:
        return f"this process no longer leads the fleet on {self.store}"


class DefinitionsChanged(Event):
    """This process holds other definitions than before.

    If a thread listens for changes, it comes once every attached client has them, or a second later, on a thread of its
    own. Else it comes right before they are handed to the client whose poll brought them.
    """

    version: str
    previous: str
    """Empty for the first ones."""
    fetched: bool
    """True: fetched by this process; False: taken from the store."""
    difference: Difference = _NOTHING
    """Which flags, cohorts and group types were added, removed and changed."""
    flags: int = 0
    """How many there are now."""

    @property
    def level(self) -> int:
        """DEBUG if another process fetched them. ERROR if all flags are gone, WARNING if more than half of ten are."""
        if not self.fetched:
            return logging.DEBUG
        gone, before = len(self.difference.removed), self._before
        if gone and not self.flags:
            return logging.ERROR
        return logging.WARNING if before >= _MANY and gone > before / 2 else logging.INFO

    @property
    def _before(self) -> int:
        return self.flags - len(self.difference.added) + len(self.difference.removed)

    def __str__(self) -> str:
        what = f"definitions {self.version[:8]} {'fetched' if self.fetched else 'taken from the store'}"
        if not self.previous:
            return f"{what}: {self.flags} flags"
        gone = len(self.difference.removed)
        if gone and not self.flags:
            return (
                f"all flags are gone ({gone}), each is off from now on: {what} ({self.difference}); if that is a"
                " mistake, restore them in PostHog"
            )
        half = f"{gone} of {self._before} flags are gone: " if gone > self._before / 2 and self._before >= _MANY else ""
        return f"{half}{what}, {self.flags} flags: {self.difference}"


class FlagsRestored(Recovery):
    """Flags are back that a `DefinitionsChanged` of this process reported as gone, all or more than half at once.

    At least half of them are there again, whichever process fetched them.
    """

    back: int
    gone: int

    def __str__(self) -> str:
        return f"{self.back} of the {self.gone} flags that were gone are back after {shown(self.lasted)}"


class DefinitionsRepaired(Event):
    """The store held nothing, nothing readable or something older; this process gave it what it holds."""

    version: str
    store: str
    behind: bool = False
    """True: what it held was from before it was away; it has lost nothing."""
    known: bool = True
    """False: as far as this process knows it never had any definitions."""
    times: int = 1
    """How often this process gave it back what it had lost, since that was last logged."""
    policy: str = ""
    """Of a Redis that loses them again and again: its `maxmemory-policy`, if its user may ask for that (`+info`)."""
    quiet: bool = False
    """True: this process logged such an event less than a minute ago; a later one has the count."""
    unread: bool = False
    """True: what it held is protected with a key that this process lacks; it has lost nothing."""
    evicts: bool = True
    """False: a store that evicts nothing, such as a file: it was emptied, or the file deleted."""

    @property
    def level(self) -> int:
        """WARNING if it has lost something, or had what this process cannot read; DEBUG if it is quiet."""
        if self.quiet:
            return logging.DEBUG
        return logging.INFO if self.behind or not self.known else logging.WARNING

    def __str__(self) -> str:
        stored = f"this process stored {self.version[:8]}"
        if self.behind:
            return f"{self.store} had older definitions, from before it was away, and {stored}"
        if self.unread:
            return (
                f"{self.store} had definitions that are protected with a key that this process does not have, and"
                f" {stored} in their place; give all workers one key in common"
            )
        if not self.known:
            return f"{self.store} had no definitions, and {stored}"
        if self.times > 1:
            return (
                f"{self.store} loses the definitions again and again, and this process stored them {self.times} times:"
                f" {self._cause}"
            )
        lost = f"{self.store} had lost the definitions, and {stored} again"
        if not self.evicts:
            return f"{lost}: it was emptied"
        return f"{lost}; if that happens often, Redis evicts keys or was emptied"

    @property
    def _cause(self) -> str:
        """Why it is lost again and again, and what to do about it."""
        if not self.evicts:
            return "it was emptied"
        policy = f"its maxmemory-policy is {self.policy}" if self.policy else "see its maxmemory-policy"
        if self.policy == "noeviction":
            return f"{policy}, so it was emptied"
        if self.policy.startswith("volatile-"):
            first = "under which keys with a time to live are evicted first"
            return f"{policy}, {first}: leave out forget_after, or raise its maxmemory"
        return f"{policy}; let Redis evict only keys with a time to live (volatile-...), or raise its maxmemory"


class Events:
    """The stream. Subscribers are called on the thread on which the thing happened, and cannot break it."""

    def __init__(self) -> None:
        self._subscribers: tuple[Callable[[Event], object], ...] = ()

    def subscribe(self, subscriber: Callable[[Event], object]) -> None:
        """Call `subscriber` with each event from now on."""
        self._subscribers = (*self._subscribers, subscriber)

    def emit(self, event: Event) -> None:
        """Tell all subscribers; one that raises is logged and does not keep the others from hearing."""
        for subscriber in self._subscribers:
            guarded(partial(subscriber, event), None, f"on_event failed on {type(event).__name__}", event.namespace)
