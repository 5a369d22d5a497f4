"""No worker ever goes back to what PostHog had replaced, even if workers freeze, lose Redis or are refused."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from flagcache_posthog.testing import RemoteStandIn, make_definitions
from tests.support.client_kinds import contexts_in
from tests.support.fleet_tasks import (
    all_hold,
    asker,
    asks,
    history,
    load,
    next_request,
    revision,
    status,
)
from tests.support.order_check import backward_steps, in_words, records_of
from tests.support.real_fleet import Fleet, Member, MemberContext
from tests.support.request_pace import let_pass
from tests.support.scenario import Backends, Mode
from tests.support.servers import RedisServer, until

EVERY = 0.5
PATIENCE = 5.0
"""Seconds more than an interval or two that a busy machine may take."""


def _killed(server: RedisServer) -> Callable[[], None]:
    """Redis dies, and returns with nothing."""
    server.kill()
    return server.start


def _restored(server: RedisServer) -> Callable[[], None]:
    """Redis dies, and returns with what it had: the old definitions."""
    server.client().save()
    server.kill()
    return server.start


def _frozen(server: RedisServer) -> Callable[[], None]:
    """Redis hangs for a while, then continues as before."""
    server.freeze()
    return server.thaw


def _catch_in_fetch_of(posthog: RemoteStandIn, fleet: Fleet, number: int) -> Member:
    """Let PostHog move to this revision, and return the process that fetches it; the answer is held back."""
    next_request(posthog, timeout=8 * EVERY)  # the next one is an interval away, so that it is the one that is held
    posthog.serve(make_definitions(5, revision=number))
    posthog.hold(times=1)
    posthog.wait_for_held(1, timeout=8 * EVERY)
    return asker(fleet, asks(posthog)[-1])


def _judge(posthog: RemoteStandIn, fleet: Fleet) -> None:
    """Fail if a worker went back."""
    records = records_of(fleet)
    back = backward_steps(records, posthog.truths())
    assert not back, f"went back: {back}; the others: {[in_words(held) for _, held in records]}"


@pytest.mark.parametrize(
    ("away", "fallback"),
    [(_killed, True), (_killed, False), (_restored, True), (_frozen, True)],
    ids=["killed", "killed, no fallback", "restored", "frozen"],
)
@pytest.mark.parametrize("seed", range(2))
def test_what_was_fetched_while_redis_died_is_kept(
    away: Callable[[RedisServer], Callable[[], None]],
    fallback: bool,
    seed: int,
    posthog: RemoteStandIn,
    server: RedisServer,
    backends: Backends,
) -> None:
    """PostHog answers v2, Redis dies before it is published, PostHog then fails: v2 stays, and reaches all."""
    rng = random.Random(f"{seed}/{away.__name__}")
    options = {} if fallback else {"fallback": None}
    contexts = contexts_in(Mode.ATTACHED, backends, refresh=EVERY, polls=EVERY, store_timeout=0.3, **options)
    with Fleet(contexts, 4) as fleet:
        fleet.call(load)
        caught = _catch_in_fetch_of(posthog, fleet, 2)
        back = away(server)
        posthog.fail(500)
        posthog.release()
        until(lambda: caught.call(revision) == 2, PATIENCE, what="v2 to reach the client that fetched it")
        let_pass(rng.random() * 3 * EVERY)
        back()
        until(lambda: all(s.store_answers for s in fleet.call(status)), PATIENCE, every=0.05, what="the store")
        let_pass(6 * EVERY)  # PostHog still fails: the worker that has v2 must give it to all
        _judge(posthog, fleet)
        all_hold(fleet, 2, within=PATIENCE)
        posthog.recover()
        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=4 * EVERY + PATIENCE)
        _judge(posthog, fleet)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("leads", "follow"),
    [(Mode.ATTACHED, Mode.ATTACHED), (Mode.PROTOCOL, Mode.PROTOCOL), (Mode.PROTOCOL, Mode.ATTACHED)],
    ids=["attached", "protocol", "mixed"],
)
@pytest.mark.parametrize("seed", range(2))
def test_what_a_leader_fetched_before_it_froze_is_kept(
    leads: Mode, follow: Mode, seed: int, posthog: RemoteStandIn, backends: Backends
) -> None:
    """Its v2 arrives, it stands still for five intervals, PostHog fails for all others: it never shows v1 again.

    All later fetches have failed, and said so: its v2 reaches all.
    """
    rng, challenge = random.Random(seed), 8.0
    make = {
        mode: contexts_in(mode, backends, refresh=EVERY, polls=EVERY, lease=3 * EVERY, challenge_after=challenge)
        for mode in (leads, follow)
    }
    with Fleet(lambda index: make[follow if index else leads](index), 3) as fleet:
        for member in fleet:  # the first one leads
            member.call(load)
        frozen = _catch_in_fetch_of(posthog, fleet, 2)
        assert frozen.index == 0
        frozen.freeze()
        posthog.fail(500)
        posthog.release()
        before = len(asks(posthog))
        let_pass((5 + rng.random()) * EVERY)
        assert len(asks(posthog)) > before, "no fetch was granted meanwhile: this shows nothing"
        frozen.thaw()
        let_pass(4 * EVERY)  # less than a challenge time, in which PostHog still fails
        _judge(posthog, fleet)
        all_hold(fleet, 2, within=2.0)
        posthog.recover()
        let_pass(challenge)
        _judge(posthog, fleet)


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_a_thawed_leader_is_harmless_after_silent_confirmations(
    mode: Mode, posthog: RemoteStandIn, backends: Backends
) -> None:
    """PostHog went to v2 and back to v1, which others got as "unchanged": the thawed leader's v2 reaches no worker."""
    challenge = 3.0
    contexts = contexts_in(mode, backends, refresh=EVERY, polls=EVERY, lease=3 * EVERY, challenge_after=challenge)
    with Fleet(contexts, 3) as fleet:
        fleet.call(load)
        frozen = _catch_in_fetch_of(posthog, fleet, 2)
        frozen.freeze()
        posthog.serve(make_definitions(5, revision=1))
        seen = len(asks(posthog))
        posthog.reset_counts()
        posthog.wait_for_requests(2, timeout=10 * EVERY)
        assert {request.status for request in asks(posthog)[seen:]} == {304}
        posthog.release()
        frozen.thaw()
        let_pass(challenge + 2 * EVERY)
        assert [member.call(_held) for member in fleet] == [[1]] * 3
        assert fleet.join(1)[0].call(load) == 1
        _judge(posthog, fleet)


def _held(context: MemberContext) -> list[int | None]:
    """The revisions that a member's client held, in order, each change once."""
    revisions = [seen.revision for seen in history(context)]
    return [each for index, each in enumerate(revisions) if index == 0 or each != revisions[index - 1]]
