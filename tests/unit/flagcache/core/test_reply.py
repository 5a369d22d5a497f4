"""What a process does about a poll and its reply."""

from __future__ import annotations

import pytest

from flagcache.core.knowledge import Knowledge, StoreView, template
from flagcache.core.order import Held
from flagcache.core.reply import Action, must_release, next_action, serves_first, yield_turn
from flagcache.settings import Settings
from flagcache.stores.base import Meta, Reply

ASK = template("me", Settings(refresh_interval=30), 40)
HELD = Held(Meta("v", 0, 1, 1, 1), {"flags": []}, "store", 0.0)


def reply(*, leads: bool = False, republish: bool = False) -> Reply:
    """A reply to a poll."""
    return Reply(clock=10, leads=leads, lease_left=1, granted_at=0, republish=republish)


@pytest.mark.parametrize(
    ("answer", "brought", "reads_only", "action"),
    [
        (reply(), True, False, Action.ADOPT),
        (reply(leads=True), True, True, Action.ADOPT),
        (reply(republish=True), False, False, Action.REPAIR),
        (reply(republish=True, leads=True), False, False, Action.REPAIR),
        (reply(republish=True), False, True, Action.NONE),
        (reply(leads=True), False, False, Action.RENEW_PROTECTION),
        (reply(leads=True), False, True, Action.NONE),
        (reply(), False, False, Action.NONE),
    ],
)
def test_a_reply_has_one_consequence(answer: Reply, brought: bool, reads_only: bool, action: Action) -> None:
    """Definitions are adopted, a store is repaired, the leader renews protection; a reader writes nothing."""
    assert next_action(answer, brought=brought, reads_only=reads_only) is action


@pytest.mark.parametrize(
    ("leads", "ours", "must_not_lead", "released"),
    [
        (True, True, False, False),
        (True, True, True, True),
        (True, False, False, True),
        (False, False, True, False),
    ],
)
def test_a_lease_that_cannot_be_used_is_released(leads: bool, ours: bool, must_not_lead: bool, released: bool) -> None:
    """It was taken before the reply could be read."""
    assert must_release(reply(leads=leads), ours=ours, must_not_lead=must_not_lead) is released


def test_a_process_with_unshareable_definitions_lets_others_go_first() -> None:
    """It challenges a silent leader after twice the time; a leader renews as usual."""
    assert yield_turn(ASK, StoreView(), unshareable=True).challenge == 2 * ASK.challenge
    assert yield_turn(ASK, StoreView(leads=True), unshareable=True) == ASK
    assert yield_turn(ASK, StoreView(), unshareable=False) == ASK


def test_an_unknown_client_without_flags_is_served_before_it_fetches() -> None:
    """An attached one has the fleet's own fetch, and one with flags can wait."""
    assert serves_first(Knowledge(), can_fetch=False)
    assert not serves_first(Knowledge(), can_fetch=True)
    assert not serves_first(Knowledge(held=HELD), can_fetch=False)
