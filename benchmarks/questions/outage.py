"""Redis is down, back, flushed or frozen: what does PostHog see, and when does a new worker have its flags?"""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.contestants.contestant import Contestant, key_of
from benchmarks.contestants.fleet import Fleet
from benchmarks.contestants.registry import ON_REDIS
from benchmarks.runner.model import Case, Measure, Question, Readings, Scale
from benchmarks.runner.servers import Servers
from flagcache_posthog.testing import key_digest

__all__ = ["QUESTION"]

_SETTLED, _MEASURED = 2.0, 4
"""Intervals that are dropped after each event, and intervals over which requests are counted."""

_NEW_AFTER_FLUSH = 5

_LATER = 1.5
"""Intervals after a flush within which each warm worker has polled."""

_GONE, _FLUSHED, _FLUSHED_BEFORE, _FROZEN = "gone", "flushed", "flushed before", "frozen"


def _cases(scale: Scale) -> Sequence[Case]:
    workers = scale.fleet(10)
    return [
        Case("Redis gone, then back and empty", workers, 200, _GONE),
        Case("Redis flushed as 5 new workers start", workers, 200, _FLUSHED),
        Case("Redis flushed 1.5 intervals before 5 new workers start", workers, 200, _FLUSHED_BEFORE),
        Case("Redis frozen", workers, 200, _FROZEN),
    ]


def _play(servers: Servers, contestant: Contestant, case: Case) -> Readings:
    act = {_GONE: _gone, _FLUSHED: _flushed, _FLUSHED_BEFORE: _flushed_before, _FROZEN: _frozen}[case.variant]
    with servers.fleet(contestant.name, case.workers) as fleet:
        fleet.warm_up(servers.spread(case.workers))
        time.sleep(_SETTLED * servers.interval)
        return act(servers, fleet)


def _gone(servers: Servers, fleet: Fleet) -> Readings:
    """Measure the first intervals without Redis, then a new worker; then the intervals after Redis came back empty."""
    servers.redis.kill()
    away = _requests(servers)
    new = _new_worker(fleet)
    servers.redis.start()
    time.sleep(_SETTLED * servers.interval)
    return {"requests": [away], "new_worker": [new], "requests_after": [_requests(servers)]}


def _flushed(servers: Servers, fleet: Fleet, wait: float = 0.0) -> Readings:
    """Start new workers, all at once, this many intervals after the flush."""
    came, before = fleet.join(_NEW_AFTER_FLUSH), servers.latest_request()
    with servers.redis.client() as client:
        client.flushall()
    time.sleep(wait * servers.interval)
    times = fleet.load_members(came)
    full = [served.key_digest for served in servers.definition_requests(after=before) if served.status == 200]
    theirs = {key_digest(key_of(member.index)) for member in came}
    by_new = sum(key in theirs for key in full)
    return {"full_fetches": [by_new], "full_fetches_warm": [len(full) - by_new], "new_worker": times}


def _flushed_before(servers: Servers, fleet: Fleet) -> Readings:
    return _flushed(servers, fleet, _LATER)


def _frozen(servers: Servers, fleet: Fleet) -> Readings:
    servers.redis.freeze()
    away = _requests(servers)
    new = _new_worker(fleet)
    servers.redis.thaw()
    return {"requests": [away], "new_worker": [new]}


def _requests(servers: Servers) -> float:
    """Return the API requests per interval from now on."""
    servers.posthog.reset_counts()
    time.sleep(_MEASURED * servers.interval)
    return servers.posthog.requests / _MEASURED


def _new_worker(fleet: Fleet) -> float:
    """Return the seconds until a worker that starts now can evaluate a flag."""
    return fleet.load_members(fleet.join(1))[0]


QUESTION = Question(
    name="outage",
    title="Redis is down, back, flushed or frozen: requests to PostHog, and a new worker's first flag",
    measures=(
        Measure("requests", "API requests an interval, Redis down", exact=True),
        Measure("requests_after", "API requests an interval, Redis back", exact=True),
        Measure("full_fetches", "full fetches of the new workers after a flush", exact=True),
        Measure("full_fetches_warm", "full fetches of the warm workers after a flush"),
        Measure("new_worker", "a new worker's time to first flag", "seconds"),
    ),
    cases=_cases,
    play=_play,
    contestants=ON_REDIS,
    drawn=("requests", "new_worker"),
)
