from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest
import redis

from flagcache.status import Role
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.fleet_tasks import contexts, load, poll, status
from tests.support.real_fleet import Fleet, Member
from tests.support.servers import MakeRedis

POLLS = 50


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a server has done so far, or between two moments."""

    sent: int
    """Bytes."""
    reads: int
    """Number of reads: one for each round trip."""

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(self.sent - other.sent, self.reads - other.reads)


def _traffic(admin: redis.Redis) -> Traffic:
    info = cast("dict[str, int]", admin.info("stats"))
    return Traffic(info["total_net_output_bytes"], info["total_reads_processed"])


def _cost_of_polls(admin: redis.Redis, member: Member, times: int) -> Traffic:
    """Return the traffic of this many polls, without that of the measurement."""
    first, second = _traffic(admin), _traffic(admin)
    member.call(poll, times)
    return _traffic(admin) - second - (second - first)


@pytest.mark.parametrize("flags", [200, 2000])
def test_an_unchanged_poll_is_one_small_round_trip(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, flags: int
) -> None:
    """An unchanged poll moves under 300 bytes out of Redis in one round trip, with few flags or many."""
    server = make_redis()
    admin = server.client()
    posthog.serve(make_definitions(flags))
    with Fleet(contexts(posthog, server.url, namespace, every=60), 2) as fleet:
        fleet.call(load)
        for member in fleet:
            member.call(poll)  # the first one after a load may bring news of a confirmation
            cost = _cost_of_polls(admin, member, POLLS)
            assert cost.reads == POLLS
            assert cost.sent < POLLS * 300
        assert {each.role for each in fleet.call(status)} == {Role.LEADER, Role.FOLLOWER}
        assert posthog.requests == 1

        new = fleet.join(1)[0]
        before = _traffic(admin)
        new.call(load)
        assert (_traffic(admin) - before).sent > flags * 10  # the payload, which this very way of measuring sees
