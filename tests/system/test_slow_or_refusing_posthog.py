"""PostHog answers slowly, refuses, or is down: a fleet is no slower than the plain SDK, and loses no flags."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Generator
from typing import Any

import pytest

from flagcache_posthog.testing import Drip, Drop, RemoteStandIn, make_definitions
from tests.support.attached_clients import adopted_at, timed_load
from tests.support.client_kinds import contexts_in, plain_contexts
from tests.support.fleet_tasks import all_hold, evaluated, key_of, load, revision
from tests.support.real_fleet import Fleet, MemberContext
from tests.support.scenario import Backends, Mode
from tests.support.servers import free_port

UNKNOWN_HOST = "posthog.invalid"


def _first_evaluation(context: MemberContext) -> float:
    """Evaluate a flag before anything was loaded; returns how many seconds that took."""
    began = time.monotonic()
    evaluated(context)
    return time.monotonic() - began


def _no_such_host(_context: MemberContext) -> None:
    """In this process, let the name server refuse one host's name at once."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: str | bytes | None, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - handed on
        if host in (UNKNOWN_HOST, UNKNOWN_HOST.encode()):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *args, **kwargs)

    socket.getaddrinfo = getaddrinfo


@contextlib.contextmanager
def _beside(
    posthog: RemoteStandIn, backends: Backends, *, every: float, **options: object
) -> Generator[tuple[Fleet, Fleet]]:
    """Two attached workers, and a process with the plain SDK, all loaded."""
    with (
        Fleet(contexts_in(Mode.ATTACHED, backends, refresh=every, polls=every, **options), 2) as fleet,
        Fleet(plain_contexts(posthog, polls=every), 1) as plain,
    ):
        fleet.call(load)
        plain.call(load)
        yield fleet, plain


def test_a_body_that_dribbles_arrives(posthog: RemoteStandIn, backends: Backends) -> None:
    """A body that takes 3 s, with no silence longer than `fetch_timeout` (1 s), arrives as with the plain SDK."""
    every = 0.5
    with _beside(posthog, backends, every=every, fetch_timeout=1.0) as (fleet, plain):
        posthog.fail(Drip(3.0))
        posthog.serve(make_definitions(5, revision=2))
        all_hold(plain, 2, within=10.0)
        all_hold(fleet, 2, within=5.0)
        alone = adopted_at(plain.members[0], 2)
        assert max(adopted_at(member, 2) for member in fleet) - alone <= 3.0 + 2 * every


@pytest.mark.slow
def test_a_body_of_twelve_seconds_arrives_with_default_settings(posthog: RemoteStandIn, backends: Backends) -> None:
    """With the default settings a body that takes 12 s arrives soon after it does with the plain SDK."""
    every = 1.0
    with _beside(posthog, backends, every=every) as (fleet, plain):
        posthog.fail(Drip(12.0))
        posthog.serve(make_definitions(5, revision=2))
        all_hold(plain, 2, within=20.0)
        all_hold(fleet, 2, within=4.0)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["wrong key", "refused connection", "unknown host"])
@pytest.mark.parametrize("size", [1, 3])
def test_a_refusal_does_not_hold_up_the_first_evaluation(
    trouble: str, size: int, posthog: RemoteStandIn, backends: Backends
) -> None:
    """In each process of a fleet on an empty store the first evaluation takes little longer than the plain SDK's."""
    host = {
        "wrong key": posthog.url,
        "refused connection": f"http://127.0.0.1:{free_port()}",
        "unknown host": f"http://{UNKNOWN_HOST}",
    }[trouble]
    if trouble == "wrong key":
        posthog.fail(401)
    with (
        Fleet(contexts_in(Mode.ATTACHED, backends, refresh=30.0, polls=30.0, host=host), size) as fleet,
        Fleet(plain_contexts(host, polls=30.0), 1) as plain,
    ):
        for each in (fleet, plain):
            each.call(_no_such_host)
        [alone] = [call.result(within=30.0) for call in plain.begin(_first_evaluation)]
        took = [call.result(within=30.0) for call in fleet.begin(_first_evaluation)]
    details = f"{[round(each, 2) for each in took]} s, the plain SDK {alone:.2f} s"
    assert max(took) <= alone + (1.0 if size == 1 else 2.0), details


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_one_wrong_key_among_good_ones_holds_nobody_up(mode: Mode, posthog: RemoteStandIn, backends: Backends) -> None:
    """Three workers start on an empty store, one with a revoked key: all have flags within three seconds."""
    posthog.fail(401, secret_key=key_of(0))
    with Fleet(contexts_in(mode, backends, refresh=30.0, polls=30.0), 3) as fleet:
        first = fleet.members[0].begin(timed_load)
        others = [member.begin(timed_load) for member in fleet.members[1:]]
        took = [call.result(within=30.0) for call in [first, *others]]
        held = [member.call(revision) for member in fleet.members[1:]]
    details = f"{[round(each, 2) for each in took]} s, revisions {held}"
    assert held == [1, 1], details
    assert max(took[1:]) <= 5.0, details


@pytest.mark.parametrize("size", [1, 3])
def test_one_dropped_connection_on_an_empty_store_is_tried_again_at_once(
    size: int, posthog: RemoteStandIn, backends: Backends
) -> None:
    """PostHog drops the first connection: all first loads bring flags within two seconds, by two requests."""
    posthog.fail(Drop(), times=1)
    with Fleet(contexts_in(Mode.ATTACHED, backends, refresh=30.0, polls=30.0), size) as fleet:
        took = [call.result(within=30.0) for call in fleet.begin(timed_load)]
        held = fleet.call(revision)
    details = f"{[round(each, 2) for each in took]} s, revisions {held}, {posthog.requests} requests"
    assert held == [1] * size, details
    assert max(took) <= 2.0, details
    assert posthog.requests == 2, details
