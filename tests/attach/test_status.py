"""A process's status agrees with what its clients evaluate with, at every moment of an outage."""

from __future__ import annotations

import time

from flagcache.events import FetchRecovered, QuotaLimited
from flagcache.status import Role, Serving, State
from flagcache_posthog.testing import Refuse, StandInControl, make_definitions
from tests.support.attached_clients import attached, events_of, flag_counts, leader_of
from tests.support.fleet_tasks import all_hold, contexts, evaluated, key_of, leader, load, revision, shutdown, status
from tests.support.real_fleet import Fleet, Member, MemberContext
from tests.support.servers import MakeRedis, until

EVERY = 0.4


def ready(context: MemberContext) -> bool:
    """Return the answer to a readiness probe."""
    return context.cache.ready()


def agrees(context: MemberContext) -> bool:
    """Whether the status before and after an evaluation agrees with its result."""
    before, found, again = context.cache.status(), evaluated(context), context.cache.status()
    steady = before.serving is again.serving
    return not steady or ((found is None) == (before.serving is Serving.NONE) == (before.flags == 0))


def all_have_status(fleet: Fleet, serving: Serving, flags: int, trouble: str) -> bool:
    """Whether all members' statuses say this."""
    return {(each.serving, each.flags, each.trouble) for each in fleet.call(status)} == {(serving, flags, trouble)}


def test_a_used_up_quota_shows_in_the_status_and_leaves_all_ready(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """All flags are off: `serving` is `none`, with the reason and its beginning; a new process is ready too."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 2) as fleet:
        assert set(fleet.call(ready)) == {False}
        assert all_have_status(fleet, Serving.NONE, 0, "")
        fleet.call(load)
        assert set(fleet.call(ready)) == {True}
        until(lambda: all_have_status(fleet, Serving.ALL, 6, ""), what="all flags")
        before = time.time()
        posthog.fail(402)
        until(lambda: all(fleet.call(agrees)) and flag_counts(fleet) == {0}, 20 * EVERY, what="no flags")
        until(lambda: all_have_status(fleet, Serving.NONE, 0, "quota"), what="the reason")
        since = {each.trouble_since for each in fleet.call(status)}
        assert all(moment is not None and before - 1 <= moment <= time.time() for moment in since)
        [late] = fleet.join(1)
        late.call(load)
        assert late.call(evaluated) is None
        assert late.call(status).serving is Serving.NONE
        assert set(fleet.call(ready)) == {True}
        posthog.recover()
        all_hold(fleet, 1, within=20 * EVERY)
        until(lambda: all_have_status(fleet, Serving.ALL, 6, ""), 20 * EVERY, what="all flags again")
        assert all(fleet.call(agrees))


def test_kept_flags_are_the_last_known(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """Flags are the last known with `on_quota_limited="keep"`, and if PostHog has not confirmed them for long."""
    make = attached(posthog, redis_url, namespace, every=EVERY, on_quota_limited="keep", stale_after=2.0)
    with Fleet(make, 2) as fleet:
        fleet.call(load)
        posthog.fail(402)
        until(lambda: all_have_status(fleet, Serving.LAST_KNOWN, 6, "quota"), 20 * EVERY, what="the last known flags")
        until(lambda: len(events_of(fleet, QuotaLimited)) == 2, what="all to say so")
        posthog.recover()
        until(lambda: all_have_status(fleet, Serving.ALL, 6, ""), 20 * EVERY, what="all flags")
        posthog.fail(500)
        until(
            lambda: all_have_status(fleet, Serving.ALL, 6, "posthog_500"),
            20 * EVERY,
            what="the reason, in followers too",
        )
        until(lambda: all_have_status(fleet, Serving.LAST_KNOWN, 6, "posthog_500"), 8.0, what="stale flags")
        assert set(fleet.call(ready)) == {True}
        assert {each.state for each in fleet.call(status)} == {State.STALE}
        posthog.recover()
        until(lambda: all_have_status(fleet, Serving.ALL, 6, ""), 20 * EVERY, what="all flags again")


def test_a_project_without_flags_serves_all_of_them(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """A project without flags serves all of them, and has no trouble."""
    posthog.serve(make_definitions(0, revision=None))
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 1) as fleet:
        fleet.call(load)
        assert all_have_status(fleet, Serving.ALL, 0, "")


def test_the_status_names_the_leader_and_whether_changes_are_pushed(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """Each worker names the same leader, by the leader's own name; in protocol mode no worker listens."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        until(lambda: all(each.listening for each in fleet.call(status)), what="all to listen")
        first = leader(fleet)
        name = first.call(status).worker
        until(lambda: {each.leader for each in fleet.call(status)} == {name}, what="all to name it")
        first.call(shutdown)
        others = [member for member in fleet if member is not first]
        until(lambda: _leaders(others) == {leader_of(others).call(status).worker}, 20 * EVERY, what="the next leader")
        assert not first.call(status).listening
        assert first.call(status).leader != name
    with Fleet(contexts(posthog, redis_url, f"{namespace}-protocol", every=EVERY), 1) as fleet:
        fleet.call(load)
        [seen] = fleet.call(status)
        assert (seen.listening, seen.leader, seen.role) == (False, seen.worker, Role.LEADER)


def _leaders(members: list[Member]) -> set[str]:
    return {member.call(status).leader for member in members}


def test_refused_keys_stay_in_the_status_while_others_fetch(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """With a revoked key in one deployment the fleet continues, and the status shows that this process cannot fetch."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 2) as fleet:
        fleet.call(load)
        first = leader(fleet)
        posthog.fail(Refuse(401), secret_key=key_of(first.index))
        until(lambda: first.call(status).trouble == "posthog_401", 20 * EVERY, what="the trouble")
        posthog.serve(make_definitions(5, revision=2))
        until(lambda: set(fleet.call(revision)) == {2}, 20 * EVERY, what="the change")
        seen = first.call(status)
        assert (seen.trouble, seen.serving, seen.role) == ("posthog_401", Serving.ALL, Role.FOLLOWER)
        assert first.call(ready)


def test_keys_that_were_refused_to_all_are_right_again_for_all(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """After each of three processes was refused, none reports the refusal once any of them fetches again."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        posthog.fail(Refuse(401))
        until(lambda: all_have_status(fleet, Serving.ALL, 6, "posthog_401"), 60 * EVERY, what="all to be refused")
        posthog.recover()
        until(lambda: all_have_status(fleet, Serving.ALL, 6, ""), 20 * EVERY, what="the end for all")
        assert all(events_of([member], FetchRecovered) for member in fleet)


def test_a_store_that_is_away_shows_and_nobody_becomes_unready(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """Redis is down, then PostHog too: all processes stay ready and serve what they have."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY), 2) as fleet:
        fleet.call(load)
        server.stop()
        until(lambda: all(each.trouble.startswith("store_") for each in fleet.call(status)), 20 * EVERY, what="it")
        assert not any(each.listening for each in fleet.call(status))
        posthog.fail(500)
        until(lambda: all_have_status(fleet, Serving.ALL, 6, "posthog_500"), 40 * EVERY, what="the graver trouble")
        assert set(fleet.call(ready)) == {True}
        posthog.recover()
        server.start()
        until(lambda: all_have_status(fleet, Serving.ALL, 6, ""), 40 * EVERY, what="all to be well")
        until(lambda: all(each.listening for each in fleet.call(status)), 8.0, what="all to listen")
