"""The project of a fleet: its token identifies it, and a token that is reset while the fleet runs changes nothing."""

from __future__ import annotations

import logging

from flagcache.events import ForeignProject
from flagcache_posthog.testing import StandInControl, make_definitions, make_flag
from tests.support.attached_clients import AttachedContext, attached, events_of, leader_of
from tests.support.fleet_tasks import all_hold, load, logs, revision, shutdown
from tests.support.real_fleet import Fleet
from tests.support.servers import until

EVERY = 0.4

LEADER, READER, NEW_WORKER, NEW_READER = range(4)


def test_the_first_flags_team_does_not_make_a_project(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """One token is one project: a fleet continues if a flag with another number comes first, and if it goes."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        copied = make_definitions(5, revision=2)
        copied["flags"] = [make_flag("copied", team_id=77), *copied["flags"]]
        posthog.serve(copied)
        all_hold(fleet, 2, within=10 * EVERY)
        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=10 * EVERY)
        late = fleet.join(1)[0]
        assert late.call(load) == 3
        assert not events_of(fleet, ForeignProject)


def test_a_reset_token_is_rolled_out_worker_by_worker(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """Old and new workers, and readers, which know only their token, stay one fleet without an edited flag."""

    def make(index: int) -> AttachedContext:
        token = "phc_test" if index in (LEADER, READER) else "phc_reset"
        if index in (READER, NEW_READER):
            return attached(posthog, redis_url, namespace, every=EVERY, token=token, role="reader")(index)
        return attached(posthog, redis_url, namespace, every=EVERY, token=token)(index)

    with Fleet(make, 2) as fleet:
        old, reader = fleet
        assert old.call(load) == 1
        assert reader.call(load) == 1
        new = fleet.join(1)[0]
        assert new.call(load) == 1
        old.call(shutdown)
        assert leader_of([new]) is new
        before = posthog.full_fetches
        newest = fleet.join(1)[0]
        newest.call(load)
        until(lambda: newest.call(revision) == 1, 10 * EVERY, what="the new reader to have flags")
        assert posthog.full_fetches == before
        posthog.serve(make_definitions(5, revision=2))
        all_hold([reader, new, newest], 2, within=10 * EVERY)
        lines = [line for line in reader.call(logs) if line.level >= logging.ERROR]
        assert not lines
