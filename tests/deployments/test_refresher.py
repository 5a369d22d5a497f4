"""`flagcache refresh` as operators run it: real processes with real fleets, killed, stopped and disconnected."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flagcache.events import LeadershipLost
from flagcache.stores.base import REFRESHER
from flagcache.stores.redis.store import RedisStore
from flagcache_posthog.testing import RemoteStandIn, Served, key_digest, make_definitions
from tests.support.attached_clients import attached, events_of
from tests.support.fleet_tasks import (
    all_hold,
    asks,
    contexts,
    key_of,
    leader,
    load,
    never_lost_flags,
    status,
    trouble,
)
from tests.support.grant_log import log_grants
from tests.support.real_fleet import Fleet, MemberContext
from tests.support.servers import MakeRedis, free_port, until
from tests.support.snippets import snippet
from tests.support.user_programs import Program, get, posthog_environment

EVERY = 1.0
LEASE = 1.5 * EVERY
"""The lease of a refresher that is killed, in seconds."""

FIRST, SECOND = "phs_first", "phs_second"


class Refreshers:
    """Starts refreshers of one namespace.

    Args:
        folder: where they run.
        host: of the stand-in.
        url: of the store, passed in the environment.
        namespace: theirs.
        every: seconds between two fetches.
    """

    def __init__(self, folder: Path, host: str, url: str, namespace: str, *, every: float = EVERY) -> None:
        self._folder = folder
        self._host = host
        self._url = url
        self._words = ["refresh", "env:FLAGCACHE_STORE_URL", namespace, "--interval", str(every)]

    def __call__(self, key: str, *words: str) -> Program:
        """Start one that fetches with this secret key."""
        folder = self._folder / key
        folder.mkdir()
        environment = posthog_environment(self._host, POSTHOG_SECRET_KEY=key, FLAGCACHE_STORE_URL=self._url)
        return Program(folder, [sys.executable, "-m", "flagcache.cli", *self._words, *words], environment)


@pytest.fixture
def refreshers(tmp_path: Path, posthog: RemoteStandIn, redis_server_url: str, namespace: str) -> Refreshers:
    """Refreshers on the shared Redis."""
    return Refreshers(tmp_path, posthog.url, redis_server_url, namespace)


@pytest.fixture
def redis_server_url(request: pytest.FixtureRequest) -> str:
    """The shared Redis."""
    return str(request.getfixturevalue("redis_server").tcp_url)


def mixed(posthog: RemoteStandIn, url: str, namespace: str) -> Callable[[int], MemberContext]:
    """Contexts of workers: the first in protocol mode, all others attached."""
    plain, tied = contexts(posthog, url, namespace, every=EVERY), attached(posthog, url, namespace, every=EVERY)
    return lambda index: tied(index) if index else plain(index)


def asked_by(posthog: RemoteStandIn, *keys: str, after: int = 0) -> list[Served]:
    """Return the requests for definitions with one of these keys."""
    digests = {key_digest(key) for key in keys}
    return [request for request in asks(posthog, after=after) if request.key_digest in digests]


def next_fetch(posthog: RemoteStandIn, *keys: str, within: float = 20.0) -> Served:
    """Wait for the next request with one of these keys."""
    after = len(posthog.served())
    return until(
        lambda: asked_by(posthog, *keys, after=after), within, every=0.05, what=f"a request with one of {keys}"
    )[0]


def leader_in(url: str, namespace: str) -> str:
    """Return the holder of the lease; empty: none."""
    store = RedisStore(url, namespace, timeout=10.0)
    try:
        return store.inspect().leader
    finally:
        store.close()


def test_a_refresher_fetches_in_place_of_the_workers(
    posthog: RemoteStandIn, redis_server_url: str, namespace: str, refreshers: Refreshers
) -> None:
    """It takes over from a leading SDK, makes all requests, and changes reach all; after a kill a worker leads."""
    workers = [key_of(index) for index in range(3)]
    make = mixed(posthog, redis_server_url, namespace)
    with log_grants(redis_server_url, namespace) as grants, Fleet(make, 3) as fleet:
        fleet.members[0].call(load)  # it leads, and its SDK fetches: no grant of its is ever reported to be over
        fleet.call(load)
        assert leader(fleet).index == 0
        with refreshers(FIRST) as refresher:
            mine = next_fetch(posthog, FIRST)
            until(lambda: {each.role.value for each in fleet.call(status)} == {"follower"}, every=0.05)
            posthog.serve(make_definitions(5, revision=2))
            all_hold(fleet, 2, within=10 * EVERY)
            for _ in range(2):
                next_fetch(posthog, FIRST)
            later = asks(posthog, after=mine.sequence)
            assert [request.key_digest for request in later] == [key_digest(FIRST)] * len(later)
            assert grants.one_an_interval(asks(posthog), EVERY)
            assert {request.status for request in later} == {200, 304}
            assert FIRST not in cmdline(refresher)

            refresher.end(signal.SIGKILL)
            killed = time.monotonic()
            theirs = next_fetch(posthog, *workers)
            assert theirs.arrived_at - killed < LEASE + EVERY + 5.0
        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=10 * EVERY)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
        assert len(events_of([each for each in [leader(fleet)] if each is not fleet.members[0]], LeadershipLost)) <= 1


def cmdline(program: Program) -> str:
    """Return its command line, which all users of the machine can see."""
    return Path(f"/proc/{program.pid}/cmdline").read_text()


def test_a_second_refresher_follows_the_first(
    posthog: RemoteStandIn, redis_server_url: str, namespace: str, refreshers: Refreshers
) -> None:
    """The second one stands by, and leads when the killed one's lease expires; after its SIGTERM a worker leads."""
    with Fleet(attached(posthog, redis_server_url, namespace, every=EVERY), 1) as fleet, refreshers(FIRST) as first:
        first.prints("this process leads")
        fleet.call(load)
        with refreshers(SECOND) as second:
            second.prints(" refreshes ")
            next_fetch(posthog, FIRST)
            assert not asked_by(posthog, SECOND)
            first.end(signal.SIGKILL)
            until(lambda: leads(second, redis_server_url, namespace), LEASE + 10.0, every=0.05, what="a new leader")
            next_fetch(posthog, SECOND)
            assert len(asked_by(posthog, key_of(0))) <= 1, "a worker that was quicker at the lease's end"

            began = time.monotonic()
            assert second.end(signal.SIGTERM) == 0
            assert time.monotonic() - began < 8.0, "sooner than a fetch may take"
            assert "SIGTERM: no longer refreshing" in second.log
            until(lambda: leader_in(redis_server_url, namespace).startswith(REFRESHER) is False, 5.0)
            next_fetch(posthog, key_of(0))


def leads(program: Program, url: str, namespace: str) -> bool:
    """Whether this refresher holds the lease."""
    return leader_in(url, namespace).split(":")[-2:-1] == [str(program.pid)]


def test_a_fetch_under_way_is_cancelled_at_the_end(
    posthog: RemoteStandIn, redis_server_url: str, namespace: str, refreshers: Refreshers
) -> None:
    """After SIGTERM or Ctrl-C during a fetch that hangs, it ends in time, with its status, and the lease is free."""
    posthog.hold()
    for key, signum, ends in ((FIRST, signal.SIGTERM, 0), (SECOND, signal.SIGINT, 130)):
        with refreshers(key) as refresher:
            next_fetch(posthog, key)
            began = time.monotonic()
            assert refresher.end(signum) == ends
            assert time.monotonic() - began < 8.0
            assert refresher.left_behind() == []
            assert leader_in(redis_server_url, namespace) == ""
    posthog.release()


def test_no_outage_ends_it(posthog: RemoteStandIn, make_redis: MakeRedis, namespace: str, tmp_path: Path) -> None:
    """A refresher survives each outage, is ready only with fresh definitions in the store, and reveals no secret."""
    redis = make_redis(tcp=True, args=("--requirepass", "pass-sesame"))
    url = f"redis://:pass-sesame@127.0.0.1:{redis.port}/0"
    redis.stop()
    port = free_port()
    refreshers = Refreshers(tmp_path, posthog.url, url, namespace, every=0.5)
    with refreshers(FIRST, "--json", "--health", str(port)) as refresher:

        def ready(wanted: bool) -> None:
            until(lambda: answer(port, "/readyz") is wanted, 20.0, every=0.1, what=f"readiness to be {wanted}")
            assert answer(port, "/healthz") is True

        refresher.prints("StoreLost")
        ready(False)
        redis.start()
        ready(True)
        posthog.fail(503)
        ready(False)
        posthog.recover()
        ready(True)
        posthog.fail(401)
        refresher.prints("PostHog answered 401")
        posthog.recover()
        next_fetch(posthog, FIRST)
        ready(True)
        redis.freeze()
        ready(False)
        began = time.monotonic()
        assert refresher.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < 8.0
        redis.thaw()
        log = refresher.log
    assert "sesame" not in log
    assert FIRST not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"RefresherStarted", "StoreLost", "StoreRecovered", "LeadershipTaken", "FetchFailed", "RefresherEnded"} <= {
        line["event"] for line in lines
    }
    assert all(line["namespace"] == namespace and line["time"].endswith("Z") for line in lines)


def test_the_docs_program_refreshes(posthog: RemoteStandIn, redis_server_url: str, tmp_path: Path) -> None:
    """The docs' own program fetches, and ends properly."""
    (tmp_path / "refresher.py").write_text(snippet("docs/refresher.md", "refresher.py"))
    environment = posthog_environment(posthog.url, FLAGCACHE_STORE_URL=redis_server_url)
    with Program(tmp_path, [sys.executable, "refresher.py"], environment) as program:
        next_fetch(posthog, "phs_test")
        until(lambda: leads(program, redis_server_url, "my-team"), every=0.05)
        assert program.end() == 0
        assert leader_in(redis_server_url, "my-team") == ""


def answer(port: int, path: str) -> bool | None:
    """Return its answer; None if it does not answer."""
    try:
        body = get(port, path, timeout=5.0)
    except AssertionError as refused:
        return False if str(refused).startswith("503") else None
    except OSError:
        return None
    assert json.loads(body)["ok"] is True
    return True
