"""The oldest and the newest SDK in one fleet: a newer worker never loses keys that the older SDK doesn't know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from flagcache import from_url
from flagcache_posthog.testing import PostHogStandIn, RemoteStandIn, make_definitions, make_flag
from tests.posthog.mixed_fleet import Member, oldest_sdk
from tests.support.servers import RedisServer, until

CHALLENGE = 2.5
PATIENCE = 30.0

Start = Callable[[bool], Member]


def definitions(revision: int) -> dict[str, object]:
    """A flag that a newer SDK evaluates wrongly without `property_matching_version` 2, and a key that no SDK knows yet.

    Without it, "false" equals whatever is not "true" (posthog 7.91, `feature_flags.py`, `_match_exact_property`).
    """
    made = cast("dict[str, object]", make_definitions(3, revision=revision))
    strict = make_flag("strict")
    strict["filters"]["groups"][0]["properties"] = [
        {"key": "answer", "value": "false", "operator": "exact", "type": "person"}
    ]
    flags = [*cast("list[object]", made["flags"]), strict]
    return {**made, "flags": flags, "property_matching_version": 2, "of_the_future": {"kept": True}}


@pytest.fixture
def posthog() -> Iterator[RemoteStandIn]:
    """It serves revision 1."""
    with PostHogStandIn.spawn(definitions(1)) as standin:
        yield standin


@pytest.fixture
def mode() -> str:
    """Whether the workers' clients are attached."""
    return "unknown"


@pytest.fixture
def start(
    pytestconfig: pytest.Config,
    posthog: RemoteStandIn,
    redis_server: RedisServer,
    namespace: str,
    tmp_path: Path,
    mode: str,
) -> Iterator[Start]:
    """Starts a worker, a newer one or an older one, and waits until it has flags."""
    old = oldest_sdk(pytestconfig.cache.mkdir("sdks"))
    arguments = [redis_server.url, namespace, posthog.url, mode, str(CHALLENGE)]
    with ExitStack() as members:

        def start(newer: bool) -> Member:
            member = members.enter_context(Member(tmp_path, arguments, posthog.url, None if newer else old))
            until(lambda: member.now.revision, PATIENCE, every=0.05, what="flags")
            return member

        yield start


def hold(members: list[Member], revision: int) -> None:
    """Wait until all hold this revision."""
    until(
        lambda: {member.now.revision for member in members} == {f"r{revision}"},
        PATIENCE,
        every=0.05,
        what=f"revision {revision}",
    )


def written_by(writer: Member, members: list[Member]) -> None:
    """Wait until all hold what this one's SDK fetched."""
    wanted = {f"posthog-python/{writer.now.sdk}"}
    until(lambda: {member.now.writer for member in members} == wanted, PATIENCE, every=0.05, what=f"{wanted} to write")


def test_a_newer_worker_keeps_its_key_whoever_comes_and_goes(start: Start, posthog: RemoteStandIn) -> None:
    """If the SDKs fetch: newer first, an older one joins, is left alone, leads, and is joined by a newer one again."""
    newer = start(True)
    older = start(False)
    assert newer.now.strict is False
    assert older.now.sdk != newer.now.sdk
    written_by(newer, [older, newer])
    counted = posthog.requests
    posthog.wait_for_requests(counted + round(2 * CHALLENGE / 0.5), timeout=PATIENCE)  # nothing changes meanwhile
    posthog.serve(definitions(2))
    hold([newer, older], 2)
    assert newer.never_lost_a_key
    assert "leader" not in {seen.role for seen in older.history if seen.writer}

    newer.end()
    posthog.serve(definitions(3))
    hold([older], 3)
    written_by(older, [older])

    again = start(True)
    until(lambda: again.now.strict is False, PATIENCE, every=0.05, what="the key that the older SDK does not know")
    posthog.serve(definitions(4))
    hold([again, older], 4)
    assert again.never_lost_a_key
    written_by(again, [older, again])


@pytest.mark.parametrize("mode", ["attached"])
@pytest.mark.parametrize("newer_first", [True, False], ids=["newer first", "older first"])
def test_attached_workers_bring_every_key(
    start: Start, posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, newer_first: bool
) -> None:
    """In attached mode all keys of PostHog's answer reach all workers, whichever leads, also keys that no SDK knows."""
    first = start(newer_first)
    second = start(not newer_first)
    newer, older = (first, second) if newer_first else (second, first)
    assert newer.now.strict is False
    posthog.serve(definitions(2))
    hold([newer, older], 2)
    first.end()
    posthog.serve(definitions(3))
    hold([second], 3)
    assert newer.never_lost_a_key
    cache = from_url(redis_server.url, namespace)
    assert cache.should_fetch_flag_definitions() is False
    stored = cast("dict[str, object]", cache.get_flag_definitions())
    cache.shutdown()
    assert stored == definitions(3)
    assert {request.if_none_match for request in posthog.served()[1:]} != {None}


@pytest.mark.parametrize("mode", ["automatic"])
def test_the_first_own_request_brings_every_key(start: Start, posthog: RemoteStandIn) -> None:
    """An older SDK that fills an empty store drops a key that it does not know; the fleet's own request brings it."""
    older, newer = start(False), start(True)
    until(lambda: newer.now.strict is False, PATIENCE, every=0.05, what="the key that the older SDK does not know")
    posthog.serve(definitions(2))
    hold([older, newer], 2)
    assert newer.now.strict is False
