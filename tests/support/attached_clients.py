"""Members of a fleet with attached clients, and the questions that only they can answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

import pytest
import redis
from typing_extensions import Unpack

from flagcache.events import Event
from flagcache.settings import Options
from flagcache.status import Role
from flagcache.stores.redis.store import keys_of
from flagcache_posthog import from_url
from flagcache_posthog.testing import Served, StandInControl
from tests.support.fleet_tasks import evaluated, history, key_of, load, poll, status
from tests.support.own_threads import threads_of
from tests.support.real_fleet import Member, MemberContext, RecordingPosthog
from tests.support.servers import until

__all__ = [
    "ADOPTS",
    "OWN_FETCH",
    "AttachedContext",
    "adopted_at",
    "attached",
    "errors",
    "events",
    "events_of",
    "flag_counts",
    "holder",
    "leader_of",
    "leads",
    "listens",
    "nothing",
    "only_own_fetches",
    "polls_until",
    "subscribed",
    "timed_evaluation",
    "timed_load",
    "timed_poll",
]

E = TypeVar("E", bound=Event)

OWN_FETCH = " flagcache/"
"""The part of the user agent that only the fleet's own fetch has."""

ADOPTS = "_update_flag_state"
"""The SDK's method that hashes definitions (since posthog 7.59) and adopts them; no public name shows that."""


@dataclass(slots=True)
class AttachedContext(MemberContext):
    """The objects of one member; its client is attached."""

    events: list[Event] = field(default_factory=list[Event])


def attached(
    posthog: StandInControl,
    store_url: str,
    namespace: str,
    *,
    every: float = 0.5,
    polls: float = 0.0,
    token: str = "phc_test",
    **options: Unpack[Options],
) -> Callable[[int], AttachedContext]:
    """Return what makes a member's context.

    Args:
        posthog: Where the fleet fetches.
        store_url: As `flagcache.from_url` takes it.
        namespace: Of the fleet.
        every: Seconds between two fetches of the fleet.
        polls: Seconds between two polls of a client; 0: as `every`.
        token: Names the project.
        options: Of the cache.
    """
    host = posthog.url

    def make(index: int) -> AttachedContext:
        happened: list[Event] = []
        cache = from_url(store_url, namespace, refresh_interval=every, on_event=happened.append, **options)
        client = RecordingPosthog(
            token,
            secret_key=key_of(index),
            host=host,
            poll_interval=polls or every,
            flag_definition_cache_provider=cache,
            flush_at=1,  # older SDKs sit out the flush interval of 5 seconds in `shutdown`
        )
        return AttachedContext(cache.attach(client), cache, events=happened)

    return make


# --- what a member does ----------------------------------------------------------------------------------------------


def events(context: MemberContext) -> list[Event]:
    """Every event that the cache passed to `on_event`."""
    return list(cast("AttachedContext", context).events)


def nothing(_context: MemberContext) -> None:
    """Only answer, to show that the member is alive."""


def listens(_context: MemberContext) -> bool:
    """Whether one listener runs in the member's process."""
    return threads_of().count("flagcache-listener") == 1


def timed_poll(context: MemberContext) -> float:
    """Poll once; returns how many seconds that took."""
    began = time.monotonic()
    poll(context)
    return time.monotonic() - began


def timed_load(context: MemberContext) -> float:
    """Load; returns how many seconds that took."""
    began = time.monotonic()
    load(context)
    return time.monotonic() - began


def timed_evaluation(context: MemberContext) -> float:
    """Evaluate a flag; returns how many seconds that took."""
    began = time.monotonic()
    assert evaluated(context) is not None
    return time.monotonic() - began


def polls_until(context: MemberContext, revision: int, *, within: float = 5.0) -> None:
    """Poll, as the client's poller does, until it has this revision: the one that leads fetches once a fetch is due."""
    poller = context.client.poller
    assert poller is not None, "nothing has been loaded yet"
    deadline = time.monotonic() + within
    while context.client.history[-1].revision != revision:
        assert time.monotonic() < deadline, f"no revision {revision}"
        poller.execute(*poller.args, **poller.kwargs)
        poller.stopped.wait(0.05)


# --- what is asked of a whole fleet ----------------------------------------------------------------------------------


def leads(member: Member) -> bool:
    """Return whether the member says that it leads."""
    return member.call(status).role is Role.LEADER


def leader_of(members: Sequence[Member], *, within: float = 10.0) -> Member:
    """Wait until one of these says that it leads, and return it."""
    return until(lambda: [member for member in members if leads(member)], within, every=0.02, what="a new leader")[0]


def flag_counts(members: Iterable[Member]) -> set[int | None]:
    """Return how many flags each of these holds."""
    return {member.call(history)[-1].flags for member in members}


def events_of(members: Iterable[Member], kind: type[E]) -> list[E]:
    """All events of this kind that these members saw."""
    return [event for member in members for event in member.call(events) if isinstance(event, kind)]


def adopted_at(member: Member, revision: int) -> float:
    """When the member's client first held this revision, in seconds of the machine's monotonic clock."""
    return next(seen.at for seen in member.call(history) if seen.revision == revision)


def only_own_fetches(served: Iterable[Served]) -> bool:
    """Whether no SDK fetched."""
    return all(OWN_FETCH in (request.user_agent or "") for request in served if request.path == "definitions")


def holder(admin: redis.Redis, namespace: str) -> int:
    """The pid of the process that holds the lease in Redis; 0: none does."""
    identity = cast("bytes | None", admin.get(keys_of(namespace, 0).lease))
    return 0 if identity is None else int(identity.split(b":")[-2])


def subscribed(admin: redis.Redis, namespace: str, count: int, *, within: float = 5.0) -> None:
    """Wait until this many listeners are subscribed in Redis."""
    channel = keys_of(namespace, 0).channel

    def listeners() -> bool:
        [(_, number)] = cast("list[tuple[bytes, int]]", admin.pubsub_numsub(channel))
        return number == count

    until(listeners, within, what=f"{count} listeners")


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what flagcache logged as an error."""
    lines = [line for line in caplog.records if line.name.startswith("flagcache") and line.levelno >= logging.ERROR]
    return [line.getMessage() for line in lines]
