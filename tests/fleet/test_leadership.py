from __future__ import annotations

import os
import subprocess
import sys
import time

from flagcache.status import Role
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.fleet_tasks import (
    all_hold,
    asker,
    asks,
    contexts,
    key_of,
    leader,
    load,
    never_lost_flags,
    revision,
    shutdown,
    status,
    trouble,
)
from tests.support.grant_log import log_grants
from tests.support.real_fleet import Fleet, Member, MemberContext, RecordingPosthog
from tests.support.servers import RedisServer, until

EVERY = 0.5

LEADS_AND_EXITS = """
import sys
from posthog import Posthog
from flagcache_posthog import from_url

url, namespace, host = sys.argv[1:]
cache = from_url(url, namespace, refresh_interval=0.5)
client = Posthog("phc_test", secret_key="phs_exits", host=host, poll_interval=0.5, flag_definition_cache_provider=cache)
client.load_feature_flags()
print(cache.status().role.value, flush=True)
sys.stdin.readline()
"""
"""A program that ends without `shutdown()`."""


def _takes_over(members: list[Member], *, within: float) -> float:
    """Wait until one of these leads; returns after how many seconds."""
    began = time.monotonic()
    until(
        lambda: any(member.call(status).role is Role.LEADER for member in members), within, every=0.02, what="a leader"
    )
    return time.monotonic() - began


def test_a_leader_that_shuts_down_is_followed_at_the_next_poll(
    posthog: StandInControl, store_url: str, namespace: str
) -> None:
    """The leader's `client.shutdown()` gives up its lease, which has half a minute left: the next poll takes it."""
    with Fleet(contexts(posthog, store_url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        first = leader(fleet)
        first.call(shutdown)
        _takes_over([member for member in fleet if member is not first], within=2 * EVERY)
        posthog.serve(make_definitions(5, revision=2))
        others = [member for member in fleet if member is not first]
        all_hold(others, 2, within=4 * EVERY)
        assert first.call(revision) == 1


def test_a_leader_that_exits_without_shutdown_is_followed_at_the_next_poll(
    posthog: StandInControl, store_url: str, namespace: str
) -> None:
    """A program that ends without `shutdown()` gives up its lease at exit."""
    with subprocess.Popen(
        [sys.executable, "-c", LEADS_AND_EXITS, store_url, namespace, posthog.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "leader\n"
            with Fleet(contexts(posthog, store_url, namespace, every=EVERY), 2) as fleet:
                assert fleet.call(load) == [1, 1]
                assert {each.role for each in fleet.call(status)} == {Role.FOLLOWER}
                program.communicate("\n", timeout=10)
                assert program.returncode == 0
                _takes_over(fleet.members, within=2 * EVERY)
        finally:
            program.kill()


def test_a_leader_that_is_killed_is_followed_after_its_lease(
    posthog: StandInControl, store_url: str, namespace: str
) -> None:
    """After `kill -9` of the leader another one leads when the lease has expired, and not before."""
    make = contexts(posthog, store_url, namespace, every=EVERY, lease=2.0)
    with log_grants(store_url, namespace) as grants, Fleet(make, 3) as fleet:
        fleet.call(load)
        killed = leader(fleet)
        killed.kill()
        took = _takes_over(list(fleet), within=2.0 + 2 * EVERY)
        assert took > 2.0 - EVERY - 0.2  # it renewed its lease a poll ago at most
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=4 * EVERY)
        assert grants.one_an_interval(asks(posthog), EVERY)


def test_a_leader_whose_key_is_revoked_is_followed(posthog: StandInControl, store_url: str, namespace: str) -> None:
    """A leader whose fetches fail after its first one reports that: another one fetches at once, and stays leader."""
    make = contexts(posthog, store_url, namespace, every=EVERY, challenge_after=60.0)
    with log_grants(store_url, namespace) as grants, Fleet(make, 3) as fleet:
        fleet.call(load)
        revoked = asker(fleet, asks(posthog)[0])
        posthog.fail(401, secret_key=key_of(revoked.index))
        others = [member for member in fleet if member is not revoked]
        for number in (2, 3):
            posthog.serve(make_definitions(5, revision=number))
            all_hold(others, number, within=4 * EVERY)
        assert [asker(fleet, each) for each in asks(posthog) if each.status == 401] == [revoked]
        assert grants.one_an_interval(asks(posthog), EVERY, more=1)  # the one that follows the refused fetch
        assert all(never_lost_flags(member) and not trouble(member) for member in others)


def test_clients_without_a_key_do_not_hold_up_the_fleet(
    posthog: StandInControl, redis_server: RedisServer, namespace: str
) -> None:
    """Forks of a client without a secret key poll like all others: they follow, and their fleet converges."""
    make = contexts(posthog, redis_server.url, namespace, every=EVERY, challenge_after=1.5)
    context = make(0)
    keyless = RecordingPosthog(
        "phc_test", host=posthog.url, poll_interval=EVERY, flag_definition_cache_provider=context.cache, flush_at=1
    )
    context.client.shutdown()
    try:
        with (
            log_grants(redis_server.url, namespace) as grants,
            Fleet(lambda _index: MemberContext(keyless, context.cache), 3) as readers,
            Fleet(make, 2) as fleet,
        ):
            until(lambda: any(each.role is not Role.NEW for each in readers.call(status)), what="the keyless to poll")
            assert set(fleet.call(load)) <= {1, None}
            for number in (2, 3):
                posthog.serve(make_definitions(5, revision=number))
                all_hold(fleet, number, within=2 * 1.5 + 4 * EVERY)
                all_hold(readers, number, within=4 * EVERY)
            assert grants.at_most(3, asks(posthog), EVERY)
            assert all(not trouble(member) for member in [*fleet, *readers])
    finally:
        keyless.shutdown()
