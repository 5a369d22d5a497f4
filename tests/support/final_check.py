"""The check at the end of each scenario: what every worker saw, compared with what PostHog served and was asked."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile, pairwise
from typing import cast

import redis

from flagcache.stores.redis.store import keys_of
from flagcache_posthog.testing import Served, Truth, key_digest
from tests.support.fleet_tasks import busiest, in_order, key_of, shutdown
from tests.support.own_threads import threads_of
from tests.support.real_fleet import Fleet, LogLine, MemberContext, Sighting
from tests.support.servers import RedisServer, until

__all__ = ["MemberRecord", "ScenarioRecord", "admin_of", "faults", "left_behind"]

_ADMIN = "chaos"

_AT_MOST = 3
"""Requests of a whole fleet in one interval, whatever happens to it, as long as its members know of each other."""

_ALONE = 2
"""Requests of one member in one interval while it knows no other member: the fleet's last, and its own first."""

_PATIENCE = 3.0
"""Seconds that the threads of a client have to end, once it was shut down."""

_AT_ONCE = 0.3
"""Seconds; far less than a lease has left."""

_ROOM = 0.8
"""The smallest part of an interval between two requests, which arrive a little after grants 0.9 of it apart."""


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """What one member saw, until now or until it was killed."""

    name: str
    index: int
    history: Sequence[Sighting]
    logs: Sequence[LogLine]


@dataclass(frozen=True, slots=True)
class ScenarioRecord:
    """Everything that is known of a scenario."""

    members: Sequence[MemberRecord]
    requests: Sequence[Served]
    truths: Sequence[Truth]
    interval: float
    """Seconds between two fetches of the fleet."""
    alone: Sequence[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """The time during which members did not know of each other."""
    one_key: bool = False
    """All members are forks of one client, so PostHog doesn't know whose a request was."""
    expected: Sequence[str] = ()
    """Words of the errors that members have to log, because of what was done to PostHog or to the store."""

    def fetches(self) -> list[Served]:
        """The requests for definitions."""
        return [request for request in self.requests if request.path == "definitions"]


def faults(scenario: ScenarioRecord) -> list[str]:
    """Return every breach of a rule, in words; empty if all is well."""
    return [
        *_asked_too_often(scenario),
        *(fault for each in scenario.members for fault in _member_faults(each, scenario)),
    ]


def left_behind(fleet: Fleet, server: RedisServer | None, namespace: str) -> list[str]:
    """Let all members shut down, and report what is left of them: threads, connections, the lease."""
    fleet.call(shutdown)
    found = [
        f"{member} is left with the threads {names}"
        for member, names in zip(fleet, fleet.call(_threads_left), strict=True)
        if names
    ]
    if server is not None:
        admin = admin_of(server)
        lease = keys_of(namespace, 0).lease
        until(lambda: not admin.exists(lease), _AT_ONCE, what="the lease to be given up, not to run out")
        until(lambda: not _connections(admin), what="the fleet's connections to be closed")
    return found


def admin_of(server: RedisServer) -> redis.Redis:
    """A client that can be distinguished from the fleet's."""
    return server.client(client_name=_ADMIN)


def _connections(admin: redis.Redis) -> list[dict[str, str]]:
    """Return those of the fleet."""
    return [each for each in admin.client_list() if each["name"] != _ADMIN]


def _threads_left(_context: MemberContext) -> list[str]:
    """Return what still runs in a member that was shut down, except what is just ending."""
    deadline = time.monotonic() + _PATIENCE
    while (names := threads_of()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return names


def _asked_too_often(scenario: ScenarioRecord) -> Iterator[str]:
    window = _ROOM * scenario.interval

    def together(request: Served) -> bool:
        return not any(begin <= request.arrived_at <= end for begin, end in scenario.alone)

    fetches = scenario.fetches()
    if (most := busiest([each for each in fetches if together(each)], window)) > _AT_MOST:
        yield f"PostHog was asked {most} times in {window:g} s by a fleet whose members knew of each other"
    for record in () if scenario.one_key else scenario.members:
        digest = key_digest(key_of(record.index))
        if (most := busiest([each for each in fetches if each.key_digest == digest], window)) > _ALONE:
            yield f"PostHog was asked {most} times in {window:g} s by {record.name}"


def _member_faults(record: MemberRecord, scenario: ScenarioRecord) -> Iterator[str]:
    """What went wrong for one member, whatever PostHog and the store did.

    It may go back once for each own fetch that no store ever took and that was then refused as late: others have
    been granted fetches since, and what those found may be newer. Until then it counts as a fetch under way.
    """
    held = list(dropwhile(lambda seen: not seen.flags, record.history))
    if not held:
        yield f"{record.name} never had any flags"
    if not all(seen.flags for seen in held):
        yield f"{record.name} lost its flags: {_short(held)}"
    revisions = [cast("int", seen.revision) for seen in held if seen.flags]
    late = sum("late fetch" in line.text for line in record.logs)
    back = sum(later < earlier for earlier, later in pairwise(revisions))
    if back > late or (not late and not in_order(held, scenario.truths)):
        yield f"{record.name} went back to what PostHog had replaced: {_short(held)} ({late} fetches were too late)"
    for line in record.logs:
        if _raised(line, scenario.expected):
            yield f"{record.name} logged: {line.text}"


def _short(held: Sequence[Sighting]) -> str:
    return " ".join("none" if not seen.flags else f"r{seen.revision}" for seen in held)


def _raised(line: LogLine, expected: Sequence[str]) -> bool:
    """Whether the SDK logs an exception of its provider, or the library logs one of its own or another error."""
    ours = line.logger.startswith("flagcache")
    wrong = line.level >= logging.ERROR and not any(words in line.text for words in expected)
    return "Cache provider" in line.text or (ours and (wrong or "Traceback" in line.text))
