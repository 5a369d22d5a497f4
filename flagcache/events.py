"""Events of a cache: a stream of small values to which the log, metrics and users subscribe.

An event reports a transition: a failure that lasts is one event, not one for each poll.
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
from flagcache.runtime.guard import log_exceptions
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
"""From this number of flags on, it is a warning if more than half are removed at once."""


class _Leadership(Event):
    store: str
    quiet: bool = False
    """True: this process logged such an event less than a minute ago. After that minute it logs the current state."""

    @property
    def level(self) -> int:
        """DEBUG if `quiet`."""
        return logging.DEBUG if self.quiet else logging.INFO


class LeadershipTaken(_Leadership):
    """This process leads now: it fetches from the vendor for its fleet."""

    def __str__(self) -> str:
        return f"this process leads the fleet on {self.store}"


class LeadershipLost(_Leadership):
    """This process no longer leads; another process may."""

    def __str__(self) -> str:
        return f"this process no longer leads the fleet on {self.store}"


class DefinitionsChanged(Event):
    """This process holds other definitions than before.

    If a thread listens for changes, the event is emitted once every attached client has them, or a second later, on a
    separate thread. Otherwise it is emitted just before the client whose poll brought them gets them.
    """

    version: str
    previous: str
    """Empty for the first definitions."""
    fetched: bool
    """True: fetched by this process; False: taken from the store."""
    difference: Difference = _NOTHING
    """Which flags, cohorts and group types were added, removed and changed."""
    flags: int = 0
    """Number of flags now."""

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
    """At least half of the flags are back that a `DefinitionsChanged` of this process reported as gone.

    That event reported that all flags, or more than half of them, were gone. Any process may have fetched them again.
    """

    back: int
    gone: int

    def __str__(self) -> str:
        return f"{self.back} of the {self.gone} flags that were gone are back after {shown(self.lasted)}"


class DefinitionsRepaired(Event):
    """The store held no readable definitions, or older ones; this process stored its own (read repair)."""

    version: str
    store: str
    behind: bool = False
    """True: the store was down and held older definitions; it lost nothing."""
    known: bool = True
    """False: as far as this process knows the store never had definitions."""
    times: int = 1
    """Number of repairs by this process since the last log line."""
    policy: str = ""
    """Redis's `maxmemory-policy`, if it keeps losing the definitions and its user has the right `+info`."""
    quiet: bool = False
    """True: this process logged such an event less than a minute ago; a later event has the count."""
    unread: bool = False
    """True: the stored definitions are protected with a key that this process lacks; the store lost nothing."""
    evicts: bool = True
    """False: the store never evicts, such as a file: it was emptied, or the file was deleted."""

    @property
    def level(self) -> int:
        """WARNING if the store lost definitions, or this process can't read them; DEBUG if `quiet`."""
        if self.quiet:
            return logging.DEBUG
        return logging.INFO if self.behind or not self.known else logging.WARNING

    def __str__(self) -> str:
        stored = f"this process stored {self.version[:8]}"
        if self.behind:
            return f"{self.store} had older definitions, from before its outage, and {stored}"
        if self.unread:
            return (
                f"{self.store} had definitions that are protected with a key that this process does not have, and"
                f" {stored} in their place; give all workers a common key"
            )
        if not self.known:
            return f"{self.store} had no definitions, and {stored}"
        if self.times > 1:
            return (
                f"{self.store} keeps losing the definitions, and this process stored them again {self.times} times:"
                f" {self._cause}"
            )
        lost = f"{self.store} had lost the definitions, and {stored} again"
        if not self.evicts:
            return f"{lost}: it was emptied"
        return f"{lost}; if that happens often, Redis evicts keys or was emptied"

    @property
    def _cause(self) -> str:
        """Why the store keeps losing the definitions, and what to do about it."""
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
    """The stream. Subscribers are called on the thread of the event; if one raises, this is only logged."""

    def __init__(self) -> None:
        self._subscribers: tuple[Callable[[Event], object], ...] = ()

    def subscribe(self, subscriber: Callable[[Event], object]) -> None:
        """Call `subscriber` with each event from now on."""
        self._subscribers = (*self._subscribers, subscriber)

    def emit(self, event: Event) -> None:
        """Call all subscribers; if one raises, this is logged and the others are still called."""
        for subscriber in self._subscribers:
            log_exceptions(
                partial(subscriber, event), None, event.namespace, "on_event failed on %s", type(event).__name__
            )
