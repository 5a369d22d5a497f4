from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from flagcache.events import DefinitionsRepaired
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.attached_clients import attached, events_of
from tests.support.fleet_tasks import all_hold, asks, contexts, load, never_lost_flags, status, trouble
from tests.support.grant_log import log_grants
from tests.support.real_fleet import Fleet, MemberContext
from tests.support.servers import until

EVERY = 0.5
INTERVALS = 4


@contextmanager
def preloaded(posthog: StandInControl, store_url: str, namespace: str) -> Generator[MemberContext]:
    """A context made in this process, as in a server that preloads its application.

    Its clients poll twice as often as the fleet fetches, so not each poll of a leader may be a request.
    """
    context = contexts(posthog, store_url, namespace, every=EVERY, poll_interval=EVERY / 2)(0)
    try:
        yield context
    finally:
        context.client.shutdown()


@pytest.mark.parametrize("loaded", [False, True], ids=["never loaded", "loaded"])
def test_children_of_a_preloaded_client_share_one_request_an_interval(
    posthog: StandInControl, store_url: str, namespace: str, loaded: bool
) -> None:
    """Eight forks of one client, without a call after the fork, make one request per interval; each gets changes."""
    with log_grants(store_url, namespace) as grants, preloaded(posthog, store_url, namespace) as context:
        if loaded:
            load(context)
        with Fleet(lambda _index: context, 8) as fleet:
            before = posthog.requests
            posthog.wait_for_requests(before + INTERVALS, timeout=INTERVALS * EVERY * 2)
            all_hold(fleet, 1, within=2 * EVERY)
            posthog.serve(make_definitions(5, revision=2))
            all_hold(fleet, 2, within=4 * EVERY)
            assert grants.one_an_interval(asks(posthog), EVERY)
            assert len({each.worker for each in fleet.call(status)}) == 8
            assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_children_find_their_own_memory_empty_and_nothing_lost(posthog: StandInControl, namespace: str) -> None:
    """A store in memory belongs to one process: a child fills its own with what it inherited, without a warning."""
    context = attached(posthog, "memory://", namespace, every=EVERY)(0)
    try:
        load(context)
        with Fleet(lambda _index: context, 2) as fleet:
            until(lambda: len(events_of(fleet, DefinitionsRepaired)) == 2, what="the children to fill their stores")
            assert {event.level for event in events_of(fleet, DefinitionsRepaired)} == {logging.INFO}
            assert {str(event) for event in events_of(fleet, DefinitionsRepaired)} == {
                f"memory:// had no definitions, and this process stored {context.cache.status().version[:8]}"
            }
            assert not any(trouble(member) for member in fleet)
    finally:
        context.client.shutdown()
