"""Definitions with one malformed part: a fleet uses the rest, as the SDK alone would."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

import pytest
from posthog import Posthog

from flagcache.events import Event, Events
from flagcache.worker.malformed import DefinitionsMalformed, MalformedDefinitions
from flagcache_posthog.testing import PostHogStandIn, StandInControl, make_definitions, make_flag
from tests.support.attached_clients import attached
from tests.support.fleet_tasks import all_hold, contexts, load, logs
from tests.support.real_fleet import Fleet, Member, MemberContext

EVERY = 0.4

Evaluated = dict[object, object]


def malformed(revision: int) -> dict[str, object]:
    """Definitions with three malformed flags, and cohorts that are no mapping."""
    made = cast("dict[str, object]", make_definitions(3, revision=revision))
    odd: list[object] = [{**make_flag("odd"), "key": 7}, {"id": 17, "active": True}, {**make_flag("odd"), "key": None}]
    return {**made, "flags": [*odd, *cast("list[object]", made["flags"])], "cohorts": []}


def all_flags(client: Posthog) -> Evaluated:
    """Every flag, evaluated locally."""
    evaluated = cast("dict[str, Evaluated]", client.get_all_flags_and_payloads("user", only_evaluate_locally=True))
    return evaluated["featureFlags"]


def flags_of(context: MemberContext) -> Evaluated:
    """Every flag, as this member's client evaluates it."""
    return all_flags(context.client)


def warnings(member: Member) -> list[str]:
    """Return this member's log lines about malformed definitions."""
    lines = [line for line in member.call(logs) if line.logger.startswith("flagcache")]
    assert all(line.level == logging.WARNING for line in lines)
    return [line.text for line in lines if "malformed" in line.text]


@pytest.fixture
def alone() -> Evaluated:
    """Return how the SDK alone evaluates revision 2."""
    with PostHogStandIn(malformed(2)) as posthog:
        client = Posthog("phc_test", secret_key="phs_x", host=posthog.url, flush_at=1)
        client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        evaluated = all_flags(client)
        client.shutdown()
    return evaluated


@pytest.mark.parametrize("mode", ["attached", "by protocol"])
def test_a_fleet_evaluates_around_what_is_malformed_as_the_sdk_alone_does(
    posthog: StandInControl, redis_url: str, namespace: str, alone: Evaluated, mode: str
) -> None:
    """A change reaches all workers, malformed flags included; the fetching worker names these once."""
    contexts_of: Callable[..., Callable[[int], MemberContext]] = attached if mode == "attached" else contexts
    names = ["has the key 7", "the flag with id 17 has no key", *(["cohorts is a list"] if mode == "attached" else [])]
    with Fleet(contexts_of(posthog, redis_url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        posthog.serve(malformed(2))
        all_hold(fleet, 2, within=10 * EVERY)
        assert fleet.call(flags_of) == [alone] * 3
        lines = [line for member in fleet for line in warnings(member)]
        assert len(lines) == 1
        assert all(name in lines[0] for name in names)
        posthog.serve(malformed(3))
        all_hold(fleet, 3, within=10 * EVERY)
        assert {line for member in fleet for line in warnings(member)} == set(lines)


def test_what_is_malformed_is_said_once_in_a_row() -> None:
    """The same malformed parts are reported once, and again after a fetch without them. Ten parts are named."""
    seen: list[Event] = []
    events = Events()
    events.subscribe(seen.append)
    reports = MalformedDefinitions("team", events)
    many = tuple(f"flag {number} has no key" for number in range(12))
    for malformed_parts in [(), ("one",), ("one",), many, (), many]:
        reports.fetched(malformed_parts)
    assert seen == [DefinitionsMalformed("team", parts) for parts in [("one",), many, many]]
    assert "flag 9 has no key; and 2 more" in str(seen[1])
