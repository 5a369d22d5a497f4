"""Failures of real fetches: each one is reported, and its end too, in the process in which it happened."""

from __future__ import annotations

import logging

from flagcache.events import FetchFailed, FetchRecovered
from flagcache_posthog.testing import Drop, Refuse, StandInControl
from tests.support.attached_clients import attached, events_of, leader_of
from tests.support.fleet_tasks import key_of, leader, load, next_request, shutdown
from tests.support.real_fleet import Fleet
from tests.support.servers import until

EVERY = 0.4


def test_a_later_failure_is_told_after_others_have_led(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """A process with a revoked key reports the failure, that others fetch, and the failure when it leads again."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 2) as fleet:
        fleet.call(load)
        first = leader(fleet)
        [other] = [member for member in fleet if member is not first]
        posthog.fail(Refuse(401), secret_key=key_of(first.index))
        until(lambda: events_of([first], FetchRecovered), 20 * EVERY, what="the end of the row")
        [recovered] = events_of([first], FetchRecovered)
        assert not recovered.own
        assert (recovered.trouble, recovered.level) == ("posthog_401", logging.ERROR)
        assert recovered.lasted > 0
        before = len(events_of([first], FetchFailed))
        assert before == 1
        assert leader_of([other]) is other
        other.call(shutdown)
        until(lambda: len(events_of([first], FetchFailed)) == before + 1, 30 * EVERY, what="the later failure")
        assert not events_of([other], FetchFailed)


def test_a_new_reason_is_told_and_one_end_for_all(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """500, then 503, then dropped connections are three reports with one end."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 1) as fleet:
        fleet.call(load)
        for fault in (Refuse(500), Refuse(503), Drop()):
            posthog.fail(fault)
            next_request(posthog)
            next_request(posthog)
            posthog.recover()
            posthog.fail(fault)
            next_request(posthog)
        posthog.recover()
        until(lambda: events_of(fleet, FetchRecovered), 20 * EVERY, what="the end of the row")
        reasons = [event.trouble for event in events_of(fleet, FetchFailed)]
        assert reasons == ["posthog_500", "posthog_503", "posthog_unreachable"]
        [recovered] = events_of(fleet, FetchRecovered)
        assert recovered.own
        assert recovered.lasted > 6 * EVERY / 2
