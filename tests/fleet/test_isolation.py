from __future__ import annotations

import logging

from flagcache_posthog.testing import PostHogStandIn, StandInControl, make_definitions
from tests.support.fleet_tasks import all_hold, contexts, hand_over, history, load, logs, next_request, revision
from tests.support.real_fleet import Fleet, Member
from tests.support.servers import until

EVERY = 0.5


def test_two_namespaces_never_meet(posthog: StandInControl, store_url: str, namespace: str) -> None:
    """Two fleets on one store, with namespaces that look alike, have a leader, a request and definitions each."""
    other = PostHogStandIn.spawn(make_definitions(5, team_id=2, revision=100))
    try:
        with (
            Fleet(contexts(posthog, store_url, namespace, every=EVERY), 3) as ours,
            Fleet(contexts(other, store_url, namespace + "}", every=EVERY), 3) as theirs,
        ):
            calls = [*ours.begin(load), *theirs.begin(load)]
            assert [call.result() for call in calls] == [1] * 3 + [100] * 3
            posthog.serve(make_definitions(5, revision=2))
            other.serve(make_definitions(5, team_id=2, revision=101))
            all_hold(ours, 2, within=4 * EVERY)
            all_hold(theirs, 101, within=4 * EVERY)
            assert {seen.revision for each in ours.call(history) for seen in each} == {1, 2}
            assert {seen.revision for each in theirs.call(history) for seen in each} == {100, 101}
    finally:
        other.stop()


def test_another_project_in_the_namespace_is_refused(posthog: StandInControl, store_url: str, namespace: str) -> None:
    """Of two projects in one namespace, once both have fetched, one logs an error, and each uses its own flags."""
    other = PostHogStandIn.spawn(make_definitions(5, team_id=2, revision=100))
    try:
        with (
            Fleet(contexts(posthog, store_url, namespace, every=EVERY), 1) as ours,
            Fleet(contexts(other, store_url, namespace, every=EVERY, token="phc_other"), 1) as theirs,
        ):
            our, their = ours.members[0], theirs.members[0]
            our.call(load)
            our.call(hand_over)
            their.call(load)
            until(lambda: their.call(revision) == 100, 4 * EVERY, every=0.05, what="the other project to fetch")
            until(lambda: _errors(their), 4 * EVERY, every=0.05, what="the error")
            posthog.serve(make_definitions(5, revision=2))
            other.serve(make_definitions(5, team_id=2, revision=101))
            all_hold(ours, 2, within=4 * EVERY)
            all_hold(theirs, 101, within=8 * EVERY)  # the second project fetches by itself, more slowly
            next_request(posthog)
            next_request(other)
            assert {seen.revision for seen in our.call(history)} == {1, 2}
            assert _errors(our) + _errors(their) == 1
    finally:
        other.stop()


def _errors(member: Member) -> int:
    """How many errors the cache logged; the one that is expected names both projects."""
    errors = [line for line in member.call(logs) if line.logger == "flagcache" and line.level >= logging.ERROR]
    assert all("belongs to another project" in line.text for line in errors)
    return len(errors)
