"""The cost of the fallback file for a machine: one process writes a change, and none encodes it for that."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flagcache.encoding import payload
from flagcache.settings import Options
from flagcache.stores.sqlite import tables
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.attached_clients import attached
from tests.support.context_factories import MakeContexts
from tests.support.fleet_tasks import all_hold, contexts, evaluated, load, status, trouble
from tests.support.real_fleet import Fleet, MemberContext
from tests.support.servers import MakeRedis, until

WORKERS = 6
EVERY = 0.6


class CallCounter:
    """How often functions were called in this process and in those forked from it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def counting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, counted by its name."""

        def counted(*args: object, **kwargs: object) -> object:
            with self._path.open("a") as file:  # one short write at the end of a file is one
                file.write(f"{call.__name__}\n")
            return call(*args, **kwargs)

        return counted

    @property
    def calls(self) -> Counter[str]:
        """So far."""
        return Counter(self._path.read_text().split())


@pytest.fixture
def tally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CallCounter:
    """Counts encodings, and payloads written to and read from a file."""
    tally = CallCounter(tmp_path / "tally")
    for owner, name in ((payload, "encode"), (tables, "save_payload"), (tables, "load_payload")):
        monkeypatch.setattr(owner, name, tally.counting(getattr(owner, name)))
    return tally


def stored(state: Path) -> tuple[str, int]:
    """Version and `confirmed_at` of what the file holds."""
    for file in state.glob("*.sqlite"):
        with closing(sqlite3.connect(file)) as connection:
            for version, confirmed_at in connection.execute(
                "SELECT version, confirmed_at FROM state JOIN payload USING (namespace)"
            ):
                return version, confirmed_at
    return "", 0


def test_a_machine_encodes_and_writes_a_content_once(
    posthog: StandInControl,
    make_redis: MakeRedis,
    namespace: str,
    make_contexts: MakeContexts,
    state: Path,
    tally: CallCounter,
) -> None:
    """At a cold start and after a change, six processes encode once, for Redis; one of them writes those bytes."""
    server = make_redis()
    with Fleet(make_contexts(posthog, server.url, namespace, every=EVERY), WORKERS) as fleet:
        for revision in (1, 2):
            posthog.serve(make_definitions(5, revision=revision))
            if revision == 1:
                assert fleet.call(load) == [1] * WORKERS
            all_hold(fleet, revision, within=10 * EVERY)
            version = fleet.members[0].call(status).version
            until(lambda: stored(state)[0], 10.0, what="the file to have something")
            time.sleep(3.0)  # each process looks at the file within two seconds of the change
            assert stored(state)[0] == version
            assert tally.calls["encode"] == revision
            assert tally.calls["save_payload"] == revision
        assert not any(trouble(member) for member in fleet)


def test_at_rest_only_the_times_are_renewed(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, state: Path, tally: CallCounter
) -> None:
    """While nothing changes, no payload is encoded, read or written for the file, and its age stays young."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY, stale_after=EVERY), 3) as fleet:
        fleet.call(load)
        until(lambda: stored(state)[0], what="the file to have it")
        before = tally.calls
        seen: set[int] = set()

        def renewed() -> bool:
            seen.add(stored(state)[1])
            return len(seen) > 3

        until(renewed, 30.0, what="its times to be renewed")
        assert tally.calls == before
        assert before["encode"] == before["save_payload"] == 1


SIGNED: Options = {"signing_key": "s" * 16}
SEALED: Options = {"encryption_key": "e" * 16}


@pytest.mark.parametrize("options", [Options(), SIGNED, SEALED], ids=["plain", "signed", "sealed"])
def test_the_bytes_of_redis_serve_without_redis(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, state: Path, tally: CallCounter, options: Options
) -> None:
    """A process that took its definitions from Redis writes those bytes, and a machine can start from them."""
    server = make_redis()
    make = contexts(posthog, server.url, namespace, every=60.0, **options)
    with Fleet(make, 1) as fleet:
        fleet.call(load)
        for file in state.iterdir():  # as on a machine that has never had one
            file.unlink()
        [follower] = fleet.join(1)
        assert follower.call(load) == 1
        assert tally.calls["encode"] == 1
        assert tally.calls["save_payload"] == 2
    server.kill()
    posthog.fail(503)
    with Fleet(make, 1) as fleet:
        assert fleet.call(load) == [1]
        assert fleet.call(evaluated) == ["r1"]


def asks_in(context: MemberContext) -> float:
    """How long the client's question whether to fetch took."""
    began = time.monotonic()
    context.cache.should_fetch_flag_definitions()
    return time.monotonic() - began


@pytest.mark.parametrize("frozen", [False, True], ids=["redis well", "redis frozen"])
def test_a_locked_file_holds_no_poll_up(
    posthog: StandInControl,
    make_redis: MakeRedis,
    namespace: str,
    make_contexts: MakeContexts,
    state: Path,
    *,
    frozen: bool,
) -> None:
    """A warm process waits for Redis and the file together no longer than for one store."""
    timeout, slack = 3.0, 2.0
    server = make_redis()
    with Fleet(make_contexts(posthog, server.url, namespace, every=EVERY, store_timeout=timeout), 2) as fleet:
        fleet.call(load)
        until(lambda: stored(state)[0], what="the file to have it")
        (file,) = state.glob("*.sqlite")
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            posthog.serve(make_definitions(5, revision=2))
            if frozen:
                server.freeze()
            slowest = max(call.result(within=30.0) for _ in range(3) for call in fleet.begin(asks_in))
            server.thaw()
        assert slowest < timeout + slack, slowest
        all_hold(fleet, 2, within=20.0)
