"""What an evaluation costs with a provider: it isn't on the path, but its polls share the interpreter."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.contestants.contestant import Contestant, WorkerContext
from benchmarks.runner.model import Case, Measure, Question, Readings, Scale
from benchmarks.runner.servers import Servers, Traffic

__all__ = ["QUESTION"]

_QUIET, _POLLING = "quiet", "polling"

_INTERVALS = {_QUIET: 60.0, _POLLING: 0.5}
"""Seconds between two polls: none happens during the first case, and several during the other one."""

_CALLS = 1_000
_PAUSE = 0.002
"""Seconds between two calls, so that they coincide with polls as often as an application's do."""

_WARM_UP = 50


def _cases(scale: Scale) -> Sequence[Case]:
    flags = 20 if scale.quick else 2_000
    return [
        Case(f"{flags:,} flags, no poll meanwhile", 2, flags, _QUIET),
        Case(f"{flags:,} flags, a poll each {_INTERVALS[_POLLING]:g} s", 2, flags, _POLLING),
    ]


def _play(servers: Servers, contestant: Contestant, case: Case) -> Readings:
    with servers.fleet(contestant.name, case.workers, interval=_INTERVALS[case.variant]) as fleet:
        fleet.warm_up([0.0])  # the second one is a follower
        follower = fleet.members[1]
        follower.call(evaluate, _WARM_UP)
        asked, traffic = servers.posthog.requests, Traffic(servers.redis)
        times = follower.call(evaluate, _CALLS)
        trips, requests = traffic.so_far()["round_trips"], servers.posthog.requests - asked
    if case.variant == _POLLING:
        return {"latency": times}
    return {"latency": times, "round_trips": [trips], "requests": [requests]}


def evaluate(context: WorkerContext, calls: int) -> list[float]:
    """Evaluate one flag repeatedly, with a pause before each call; return the seconds of each call."""
    took: list[float] = []
    for number in range(calls):
        time.sleep(_PAUSE)
        began = time.perf_counter()
        context.client.evaluate_flags(f"user-{number}", only_evaluate_locally=True, flag_keys=["flag-0"])
        took.append(time.perf_counter() - began)
    return took


QUESTION = Question(
    name="evaluation",
    title=f"The latency of {_CALLS:,} local evaluations in a follower, and the requests that they cause",
    measures=(
        Measure("latency", "one evaluation", "seconds"),
        Measure("round_trips", "Redis round trips during all of them", exact=True),
        Measure("requests", "API requests during all of them", exact=True),
    ),
    cases=_cases,
    play=_play,
    contestants=("none", "example", "protocol", "attached"),
    drawn=(),
)
