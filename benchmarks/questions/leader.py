"""The leader is lost: when do the others get a change, and what does the next leader's fetch cost?"""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.contestants import worker
from benchmarks.contestants.contestant import Contestant, key_of
from benchmarks.contestants.fleet import Fleet, Member, until
from benchmarks.contestants.registry import ON_REDIS
from benchmarks.runner.model import Case, Measure, Question, Readings, Scale
from benchmarks.runner.servers import Servers
from flagcache_posthog.testing import Served, key_digest

__all__ = ["QUESTION"]

_PATIENCE = 90.0
"""Seconds; the example's lease is a minute long."""

_SETTLED = 2.0
"""Intervals after the cold start, when leases have their usual length."""

_AFTER_THAW = 3.0
"""Intervals within which all see what a late writer wrote."""

_COST = {200: 10, 304: 1}
"""Flag requests that PostHog bills, by the status of its answer."""

_KILLED, _FROZEN, _STOPPED, _UNCHANGED, _LATE = "killed", "frozen", "stopped", "unchanged", "late"


def _cases(scale: Scale) -> Sequence[Case]:
    workers = scale.fleet(10)
    return [
        Case("killed (kill -9)", workers, 20, _KILLED),
        Case("frozen (SIGSTOP)", workers, 20, _FROZEN),
        Case("stopped politely", workers, 20, _STOPPED),
        Case("killed, nothing changed", workers, 20, _UNCHANGED),
        Case("frozen in mid-fetch, thawed later", workers, 20, _LATE),
    ]


def _play(servers: Servers, contestant: Contestant, case: Case) -> Readings:
    with servers.fleet(contestant.name, case.workers) as fleet:
        fleet.warm_up(servers.spread(case.workers))
        time.sleep((_SETTLED + servers.random.random()) * servers.interval)
        if case.variant == _LATE:
            return _thaw_late(servers, contestant, fleet)
        return _lose(servers, contestant, fleet, case.variant)


def _lose(servers: Servers, contestant: Contestant, fleet: Fleet, how: str) -> Readings:
    lost = _leader(servers, fleet)
    before, began = servers.latest_request(), time.monotonic()
    {_FROZEN: lost.freeze, _STOPPED: lost.stop}.get(how, lost.kill)()
    if how == _UNCHANGED:
        successor = until(lambda: _answered(servers, lost, before), _PATIENCE, what="another worker to ask PostHog")[0]
        if contestant.store == "none":
            return {}  # all workers always ask
        return {"takeover": [successor.arrived_at - began], "takeover_cost": [_COST.get(successor.status or 0, 0)]}
    revision = servers.change()
    others = [member for member in fleet if member is not lost]
    _wait_for(others, revision)
    return {"reached": [max(at for member in others for at in _seen(member, revision)) - began]}


def _thaw_late(servers: Servers, contestant: Contestant, fleet: Fleet) -> Readings:
    """Freeze the leader during its fetch, and let it continue once the others have newer definitions."""
    if contestant.store == "none":
        return {}  # no process writes what others read
    servers.posthog.hold(times=1)
    servers.change()
    servers.posthog.wait_for_held(1, timeout=_PATIENCE)
    late = _leader(servers, fleet)
    late.freeze()
    servers.posthog.release()
    newest = servers.change()
    others = [member for member in fleet if member is not late]
    _wait_for(others, newest)
    late.thaw()
    time.sleep(_AFTER_THAW * servers.interval)
    return {"thrown_back": [sum(_fell_back(member, newest) for member in others)]}


def _leader(servers: Servers, fleet: Fleet) -> Member:
    """Return the worker that asked PostHog last."""
    last = servers.definition_requests()[-1].key_digest
    return next(member for member in fleet if key_digest(key_of(member.index)) == last)


def _answered(servers: Servers, lost: Member, after: int) -> list[Served]:
    """The answered requests of all other processes, in order."""
    asked = [served for served in servers.definition_requests(after=after) if served.status is not None]
    return [served for served in asked if served.key_digest != key_digest(key_of(lost.index))]


def _wait_for(members: Sequence[Member], revision: int) -> None:
    def hold() -> bool:
        return all(member.call(worker.revision) == revision for member in members)

    until(hold, _PATIENCE, every=0.1, what=f"the others to hold revision {revision}")


def _seen(member: Member, revision: int) -> list[float]:
    """Return the time when it first got this revision."""
    return [at for at, seen in member.call(worker.history) if seen == revision][:1]


def _fell_back(member: Member, newest: int) -> bool:
    """Whether it held the newest revision, and then an older one."""
    revisions = [seen or 0 for _, seen in member.call(worker.history)]
    return any(later < newest for later in revisions[revisions.index(newest) :])


QUESTION = Question(
    name="leader",
    title="The worker that fetches is lost: a change reaches all others, and what its successor costs",
    measures=(
        Measure("reached", "loss of the leader to a change at all others", "seconds"),
        Measure("takeover", "loss of the leader to its successor's first request", "seconds"),
        Measure("takeover_cost", "flag requests billed for that one", exact=True),
        Measure("thrown_back", "workers that returned to older definitions", exact=True),
    ),
    cases=_cases,
    play=_play,
    contestants=(*ON_REDIS, "attached-sqlite"),
    drawn=("reached",),
)
