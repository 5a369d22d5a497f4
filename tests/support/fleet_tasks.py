"""Tasks for the members of a fleet, questions to a whole fleet, and the usual context."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from typing_extensions import Unpack

from flagcache.settings import Options
from flagcache.status import Role, Status
from flagcache_posthog import FlagDefinitionCache, from_url
from flagcache_posthog.testing import REVISION_FLAG, Served, StandInControl, Truth, key_digest
from tests.support.real_fleet import Fleet, LogLine, Member, MemberContext, RecordingPosthog, Sighting
from tests.support.servers import until

__all__ = [
    "all_hold",
    "asker",
    "asks",
    "busiest",
    "contexts",
    "evaluated",
    "hand_over",
    "history",
    "in_order",
    "key_of",
    "leader",
    "load",
    "logs",
    "never_lost_flags",
    "next_request",
    "poll",
    "revision",
    "revisions",
    "shutdown",
    "status",
    "trouble",
]

# --- what a member does ----------------------------------------------------------------------------------------------


def load(context: MemberContext) -> int | None:
    """Load flags as an application does at its start, which starts the poller too; returns the revision held."""
    context.client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    return revision(context)


def poll(context: MemberContext, times: int = 1) -> None:
    """Let the client do what its poller does, through public names only."""
    poller = context.client.poller
    assert poller is not None, "nothing has been loaded yet"
    for _ in range(times):
        poller.execute(*poller.args, **poller.kwargs)


def evaluated(context: MemberContext) -> str | None:
    """Return the revision as a user's code sees it: the variant of a flag, evaluated locally."""
    flags = context.client.evaluate_flags("user", only_evaluate_locally=True)
    return cast("str | None", flags.get_flag(REVISION_FLAG))


def revision(context: MemberContext) -> int | None:
    """The revision that the client holds; makes no request."""
    return context.client.history[-1].revision if context.client.history else None


def history(context: MemberContext) -> list[Sighting]:
    """Everything that the client ever held, in order."""
    return list(context.client.history)


def status(context: MemberContext) -> Status:
    """Return the cache's status."""
    return context.cache.status()


def logs(context: MemberContext) -> list[LogLine]:
    """Return what the libraries logged."""
    return list(context.logs)


def shutdown(context: MemberContext) -> None:
    """Shut the client down as an application does at its end."""
    context.client.shutdown()


def hand_over(context: MemberContext) -> None:
    """Give up the lease; the client still polls, and the cache starts again at its next poll."""
    context.cache.shutdown()


# --- contexts -------------------------------------------------------------------------------------------------------


def key_of(index: int) -> str:
    """Return the secret key of one member: each has its own, so the stand-in's log shows which one asked."""
    return f"phs_{index}"


def contexts(
    posthog: StandInControl,
    store_url: str,
    namespace: str,
    *,
    every: float = 0.5,
    token: str = "phc_test",
    wrap: Callable[[FlagDefinitionCache], object] = lambda cache: cache,
    **options: Unpack[Options],
) -> Callable[[int], MemberContext]:
    """Return what makes a member's context, not attached unless `options` have `auto_attach=True`.

    Args:
        posthog: Where the clients fetch.
        store_url: As `flagcache.from_url` takes it.
        namespace: Of the fleet.
        every: Seconds between two polls of a client, and by default between two fetches of the fleet.
        token: Of the project.
        wrap: Makes the clients' provider of their cache.
        options: Of the cache; `poll_interval` for clients that poll more often than the fleet is to fetch.
    """
    host = posthog.url
    options.setdefault("auto_attach", False)

    def make(index: int) -> MemberContext:
        cache = from_url(store_url, namespace, refresh_interval=every, **options)
        client = RecordingPosthog(
            token,
            secret_key=key_of(index),
            host=host,
            poll_interval=options.get("poll_interval", every),
            flag_definition_cache_provider=wrap(cache),
            flush_at=1,  # older SDKs sit out the flush interval of 5 seconds in `shutdown`
        )
        return MemberContext(client, cache)

    return make


# --- what is asked of a whole fleet ----------------------------------------------------------------------------------


def revisions(members: Iterable[Member]) -> set[int | None]:
    """All revisions that are held now."""
    return {call.result() for call in [member.begin(revision) for member in members]}


def all_hold(members: Iterable[Member], wanted: int, *, within: float) -> None:
    """Wait until every one of these holds this revision; a fleet is its living members."""
    until(lambda: revisions(members) == {wanted}, within, every=0.05, what=f"all to hold revision {wanted}")


def leader(fleet: Fleet) -> Member:
    """Wait until exactly one member says that it leads, and return it."""

    def leading() -> list[Member]:
        return [each for each, seen in zip(fleet, fleet.call(status), strict=True) if seen.role is Role.LEADER]

    found = until(lambda: found if len(found := leading()) == 1 else [], every=0.05, what="one leader")
    return found[0]


def asker(fleet: Fleet, served: Served) -> Member:
    """Return the member that made this request."""
    return next(each for each in fleet.members if key_digest(key_of(each.index)) == served.key_digest)


def next_request(posthog: StandInControl, *, timeout: float = 5.0) -> None:
    """Wait for one more request for definitions; the next one is then a whole interval away."""
    posthog.wait_for_requests(posthog.requests + 1, timeout=timeout)


def never_lost_flags(member: Member) -> bool:
    """Whether the member's client, once it held flags, never held none."""
    counts = [seen.flags for seen in member.call(history)]
    first = next((place for place, count in enumerate(counts) if count), len(counts))
    return all(counts[first:])


def trouble(member: Member) -> list[str]:
    """What the SDK says of its provider's exceptions, and whatever has a traceback: there must be none."""
    return [
        line.text
        for line in member.call(logs)
        if "Cache provider" in line.text or ("Traceback" in line.text and line.level >= logging.ERROR)
    ]


def asks(posthog: StandInControl, *, after: int = 0) -> list[Served]:
    """Return the requests for definitions in order of arrival, without the first ones of the log."""
    return [request for request in posthog.served(after=after) if request.path == "definitions"]


def busiest(requests: Sequence[Served], interval: float) -> int:
    """How many requests the busiest stretch of this many seconds saw."""
    times = [request.arrived_at for request in requests]
    return max((sum(start <= at < start + interval for at in times) for start in times), default=0)


def in_order(seen: Sequence[Sighting], truths: Sequence[Truth]) -> bool:
    """Return whether a client's history matches what PostHog served, always forward.

    Each sighting counts as the earliest time at which PostHog served its revision after the previous one; for a client
    that goes back to what PostHog had replaced there is no such time.
    """
    place = 0
    for sighting in seen:
        if sighting.flags:
            later = [number for number in range(place, len(truths)) if truths[number].revision == sighting.revision]
            if not later or truths[later[0]].changed_at > sighting.at:
                return False
            place = later[0]
    return True
