"""What happened: one stream of small values, to which logs, metrics and users subscribe.

Events tell transitions, never ticks: a lasting trouble is one event, not one a poll.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from flagcache.runtime.guard import guarded
from flagcache.runtime.values import Value
from flagcache.stores.base import Scope
from flagcache.vendor import Difference

__all__ = [
    "ColdStartExpired",
    "DefinitionsChanged",
    "DefinitionsFresh",
    "DefinitionsRepaired",
    "DefinitionsStale",
    "Event",
    "Events",
    "FetchFailed",
    "FetchRecovered",
    "ForeignKey",
    "ForeignProject",
    "LateFetchRefused",
    "LeadershipLost",
    "LeadershipTaken",
    "PayloadRefused",
    "PublicationRefused",
    "QuotaLimited",
    "QuotaRestored",
    "StoreLost",
    "StoreRecovered",
    "log_events",
]

_log = logging.getLogger("flagcache")

_NOTHING = Difference()


class Event(Value):
    """Something that happened to one cache. `level` is that of the log line, `str()` is its text."""

    namespace: str

    level = logging.INFO


class LeadershipTaken(Event):
    """This process now asks the vendor for its fleet."""

    store: str

    def __str__(self) -> str:
        return f"this process leads the fleet {self.namespace!r} on {self.store}"


class LeadershipLost(Event):
    """Another process does so from now on, or nobody."""

    store: str

    def __str__(self) -> str:
        return f"this process no longer leads the fleet {self.namespace!r} on {self.store}"


class DefinitionsChanged(Event):
    """This process holds other definitions than before."""

    version: str
    previous: str
    """Empty for the first ones."""
    fetched: bool
    """True: fetched by this process; False: taken from the store."""
    difference: Difference = _NOTHING
    """Which keys were added, removed and changed."""

    def __str__(self) -> str:
        source = "fetched" if self.fetched else "taken from the store"
        before = self.previous[:12] or "none"
        what = f"definitions {self.version[:12]} of {self.namespace!r} {source}, in place of {before}"
        return f"{what} ({self.difference})" if self.previous else what


class DefinitionsRepaired(Event):
    """The store held nothing, nothing readable or something older; this process gave it what it holds."""

    version: str
    store: str
    level = logging.WARNING

    def __str__(self) -> str:
        return f"{self.store} had lost the definitions of {self.namespace!r}: republished {self.version[:12]}"


class PayloadRefused(Event):
    """What the store held is no well-formed envelope of ours with well-formed definitions; it was discarded."""

    version: str
    store: str
    reason: str
    level = logging.ERROR

    def __str__(self) -> str:
        what = f"unreadable definitions {self.version[:12]} of {self.namespace!r}"
        return f"{what} discarded from {self.store}: {self.reason}"


class PublicationRefused(Event):
    """Readers would refuse what this process fetched, mostly because it is too large: it is kept and not published."""

    version: str
    reason: str
    level = logging.ERROR

    def __str__(self) -> str:
        return f"definitions {self.version[:12]} of {self.namespace!r} cannot be shared: {self.reason}"


class LateFetchRefused(Event):
    """A fetch of this process ended after others had moved on; what it brought was not published."""

    version: str
    store: str
    level = logging.WARNING

    def __str__(self) -> str:
        what = f"a late fetch of {self.namespace!r} brought {self.version[:12]}"
        return f"{what}; {self.store} holds or awaits newer, so it was dropped"


class FetchFailed(Event):
    """The first of a row of fetches by this process failed."""

    reason: str
    status: int
    """The HTTP status; 0 where there was no answer, or it is not known."""
    scope: Scope
    """Mine: this process stays out and others take over. Everybody: the whole fleet waits."""
    retry_in: float
    level = logging.WARNING

    def __str__(self) -> str:
        who = "this process lets others try" if self.scope is Scope.MINE else "the whole fleet waits"
        return f"a fetch of {self.namespace!r} failed: {self.reason}; {who} for {self.retry_in:.1f} s"


class FetchRecovered(Event):
    """A fetch by this process succeeded again."""

    def __str__(self) -> str:
        return f"fetches of {self.namespace!r} succeed again"


class QuotaLimited(Event):
    """The vendor's quota is used up: clients are handed no flags, or keep the last ones, as the settings say."""

    cleared: bool
    level = logging.WARNING

    def __str__(self) -> str:
        flags = "no flags" if self.cleared else "the last known flags"
        return f"the quota of {self.namespace!r} is used up: clients go on with {flags} until it is not"


class QuotaRestored(Event):
    """The vendor answers again; flags are back."""

    def __str__(self) -> str:
        return f"the quota of {self.namespace!r} is no longer used up"


class DefinitionsStale(Event):
    """The vendor has not confirmed what this process holds for longer than `stale_after`."""

    age: float
    level = logging.WARNING

    def __str__(self) -> str:
        return f"definitions of {self.namespace!r} were last confirmed {self.age:.0f} s ago"


class DefinitionsFresh(Event):
    """It has confirmed them again."""

    def __str__(self) -> str:
        return f"definitions of {self.namespace!r} are confirmed again"


class ColdStartExpired(Event):
    """No definitions came within the cold start wait; this process goes on with no flags until some come."""

    waited: float
    level = logging.ERROR

    def __str__(self) -> str:
        return f"no definitions of {self.namespace!r} after {self.waited:.1f} s: going on without flags until some come"


class ForeignKey(Event):
    """Others go on protecting the definitions with a key that this process does not have."""

    store: str
    level = logging.ERROR

    def __str__(self) -> str:
        return (
            f"others protect the definitions of {self.namespace!r} on {self.store} with a key that this process does"
            " not have: they are not used, and it fetches its own; give all workers one key in common"
        )


class ForeignProject(Event):
    """The namespace holds the definitions of another project."""

    store: str
    ours: str
    theirs: str
    level = logging.ERROR

    def __str__(self) -> str:
        return (
            f"namespace {self.namespace!r} on {self.store} belongs to project {self.theirs},"
            f" this process to {self.ours}: its definitions are not used, and this process fetches its own;"
            " give each project a namespace of its own"
        )


class StoreLost(Event):
    """A store does not answer; the next one takes over."""

    store: str
    reason: str
    level = logging.WARNING

    def __str__(self) -> str:
        return f"{self.store} does not answer for {self.namespace!r}: {self.reason}"


class StoreRecovered(Event):
    """A store answers again."""

    store: str

    def __str__(self) -> str:
        return f"{self.store} answers again for {self.namespace!r}"


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
            guarded(partial(subscriber, event), None, f"a subscriber failed on {event!r}")


def log_events(event: Event) -> None:
    """Write an event to the logger `flagcache`."""
    _log.log(event.level, "%s", event)
