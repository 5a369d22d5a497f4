"""The times of requests for definitions, and their intervals: the measure of a fleet's pace."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from flagcache.events import DefinitionsFresh, DefinitionsStale, Event
from flagcache.status import State
from flagcache_posthog.testing import Served, StandInControl, key_digest
from tests.support.attached_clients import events_of
from tests.support.fleet_tasks import asks, key_of, status
from tests.support.real_fleet import Fleet, Member
from tests.support.servers import until

__all__ = [
    "gaps",
    "let_pass",
    "next_ask",
    "of_fleet",
    "pace_faults",
    "stale_events",
    "stale_states",
    "watch",
    "window",
]


def of_fleet(posthog: StandInControl, members: Sequence[Member]) -> list[Served]:
    """The requests for definitions that these members made."""
    keys = {key_digest(key_of(member.index)) for member in members}
    return [served for served in asks(posthog) if served.key_digest in keys]


def gaps(requests: Sequence[Served]) -> list[float]:
    """Seconds between each request and the one before."""
    return [later.arrived_at - earlier.arrived_at for earlier, later in pairwise(requests)]


def window(requests: Sequence[Served], seconds: float) -> list[Served]:
    """The first request, and those in this many seconds after it."""
    return [served for served in requests if served.arrived_at <= requests[0].arrived_at + seconds]


def pace_faults(requests: Sequence[Served], refresh: float, seconds: float) -> list[str]:
    """Return what is wrong with the pace of a healthy fleet in this many seconds after its first request, in words.

    It must ask 0.9 to 1.2 times as often as its refresh interval says, and no gap may exceed 1.3 intervals.
    """
    seen = window(requests, seconds)
    after_first, expected = len(seen) - 1, seconds / refresh
    end = seen[0].arrived_at + seconds
    longest = max([*gaps(seen), end - seen[-1].arrived_at])
    found: list[str] = []
    if not 0.9 * expected - 0.5 <= after_first <= 1.2 * expected + 0.5:
        found.append(f"{after_first} requests in the {seconds:g} s after the first, {expected:g} expected")
    if longest > 1.3 * refresh:
        found.append(f"{longest:.2f} s without a request, at most {1.3 * refresh:.2f} expected")
    return found


def next_ask(posthog: StandInControl, after: float, *, within: float) -> Served:
    """Wait for the first request for definitions that arrived after this time of `time.monotonic()`."""

    def found() -> list[Served]:
        return [served for served in asks(posthog) if served.arrived_at > after]

    return until(found, within, every=0.02, what="a request for definitions")[0]


def let_pass(seconds: float) -> None:
    """Wait, so that what comes next comes at that moment of an interval."""
    time.sleep(seconds)


def watch(seconds: float, look: Callable[[], object], *, every: float = 0.1) -> None:
    """Look repeatedly for this many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        look()
        time.sleep(every)


def stale_events(fleet: Fleet) -> list[Event]:
    """All events in which a member called its definitions stale, or fresh again."""
    return [*events_of(fleet, DefinitionsStale), *events_of(fleet, DefinitionsFresh)]


def stale_states(fleet: Fleet) -> list[Member]:
    """The members whose status is not "fresh" now."""
    return [member for member, each in zip(fleet, fleet.call(status), strict=True) if each.state is not State.FRESH]
