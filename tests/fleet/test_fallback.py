"""While Redis is down, the processes of one machine are one fleet, on a store on its disk."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flagcache_posthog import RedisFlagDefinitionCache
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.attached_clients import attached
from tests.support.context_factories import MakeContexts
from tests.support.fleet_tasks import (
    all_hold,
    asks,
    busiest,
    contexts,
    evaluated,
    history,
    in_order,
    leader,
    load,
    logs,
    never_lost_flags,
    shutdown,
    status,
    trouble,
)
from tests.support.real_fleet import Fleet
from tests.support.servers import MakeRedis, RedisServer, until

EVERY = 0.6
LONG = 60.0
TIMEOUT = 0.3


def files(state: Path) -> list[Path]:
    """The fallback stores."""
    return sorted(state.glob("*.sqlite"))


def kept(state: Path) -> set[str]:
    """The versions in the fallback stores."""
    found: set[str] = set()
    for file in files(state):
        with closing(sqlite3.connect(file)) as connection:
            found |= {
                version for (version,) in connection.execute("SELECT version FROM state JOIN payload USING (namespace)")
            }
    return found


def test_an_outage_costs_one_fetcher_for_each_machine(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, make_contexts: MakeContexts
) -> None:
    """After Redis is killed, one of 10 workers fetches, once per interval; changes reach all and no flag is lost."""
    server = make_redis()
    with Fleet(make_contexts(posthog, server.url, namespace, every=EVERY, store_timeout=TIMEOUT), 10) as fleet:
        assert fleet.call(load) == [1] * 10
        server.kill()
        until(lambda: not any(each.store_answers for each in fleet.call(status)), 6 * EVERY, what="all to notice")
        began, before = time.monotonic(), len(asks(posthog))
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=8 * EVERY)
        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=8 * EVERY)
        assert len({each.store_in_charge for each in fleet.call(status)}) == 1
        leader(fleet)
        requests = asks(posthog)[before:]
        assert len(requests) <= (time.monotonic() - began) / (0.85 * EVERY) + 2
        assert busiest(requests, 0.85 * EVERY) <= 2  # of which one may have been begun before

        server.start()
        until(lambda: all(each.store_answers for each in fleet.call(status)), 6 * EVERY, what="all to come back")
        posthog.serve(make_definitions(5, revision=4))
        all_hold(fleet, 4, within=6 * EVERY)
        leader(fleet)
        truths = posthog.truths()
        assert all(in_order(each, truths) for each in fleet.call(history))
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
        for lines in fleet.call(logs):  # one line when it went, one when it came back
            about_redis = [
                line.text for line in lines if str(server.socket_path) in line.text and "answer" in line.text
            ]
            assert len(about_redis) <= 2, about_redis


def test_the_leader_of_a_machine_is_followed(posthog: StandInControl, make_redis: MakeRedis, namespace: str) -> None:
    """If the worker that fetches for its machine while Redis is down is killed, another one fetches."""
    server = make_redis()
    make = contexts(posthog, server.url, namespace, every=EVERY, store_timeout=TIMEOUT, lease=2 * EVERY)
    with Fleet(make, 4) as fleet:
        fleet.call(load)
        server.kill()
        until(lambda: not any(each.store_answers for each in fleet.call(status)), 6 * EVERY, what="all to notice")
        leader(fleet).kill()
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=12 * EVERY)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_a_new_worker_starts_beside_a_frozen_redis(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, make_contexts: MakeContexts
) -> None:
    """With a frozen Redis a new worker has its flags from the disk after one timeout, and waits for no fetch."""
    server = make_redis()
    with Fleet(make_contexts(posthog, server.url, namespace, every=LONG, store_timeout=1.0), 2) as fleet:
        fleet.call(load)
        server.freeze()
        began = time.monotonic()
        came = fleet.join(1)[0]
        assert came.call(load) == 1
        assert time.monotonic() - began < 2.5
        assert posthog.full_fetches == 1
        assert posthog.requests <= 2  # if its machine has not asked PostHog for an interval, it may
        server.thaw()


def test_new_workers_start_without_posthog(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, make_contexts: MakeContexts
) -> None:
    """While PostHog is down, new workers start with Redis's definitions, although a fetch is due."""
    server = make_redis()
    with Fleet(make_contexts(posthog, server.url, namespace, every=EVERY, store_timeout=TIMEOUT), 1) as fleet:
        fleet.call(load)
        posthog.fail(503)
        fleet.members[0].kill()
        time.sleep(EVERY)  # so that the next fetch is due
        came = fleet.join(3)
        assert [member.call(load) for member in came] == [1] * 3
        assert {member.call(evaluated) for member in came} == {"r1"}
        assert not any(trouble(member) for member in came)


def test_new_workers_start_from_the_disk_alone(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, make_contexts: MakeContexts, state: Path
) -> None:
    """With Redis and PostHog down and no worker left, a new fleet starts with the last known definitions and age."""
    server = make_redis()
    make = make_contexts(posthog, server.url, namespace, every=EVERY, store_timeout=TIMEOUT, first_load_max_age=60)
    with Fleet(make, 3) as fleet:
        fleet.call(load)
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=6 * EVERY)
        version = leader(fleet).call(status).version
        until(lambda: version in kept(state), 10.0, what="the change to be kept")
        for member in fleet:
            member.kill()
        posthog.fail(503)
        server.kill()
        time.sleep(EVERY)
        came = fleet.join(3)
        assert [member.call(load) for member in came] == [2] * 3
        assert {member.call(evaluated) for member in came} == {"r2"}
        assert all((each.age or 0) >= EVERY for each in fleet.call(status))

        posthog.recover()
        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=12 * EVERY)
        assert not any(trouble(member) for member in came)


def test_who_leaves_keeps_what_it_has(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, state: Path
) -> None:
    """What an attached client got a moment ago is on the disk when its process has shut down."""
    with Fleet(attached(posthog, make_redis().url, namespace, every=EVERY), 1) as fleet:
        fleet.call(load)
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=6 * EVERY)
        version = fleet.members[0].call(status).version
        fleet.call(shutdown)
        assert version in kept(state)


def test_an_emptied_redis_is_filled_from_the_disk(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, state: Path
) -> None:
    """With PostHog down and Redis empty, a new worker uses the fallback file and stores its definitions in Redis."""
    server = make_redis()
    make = attached(posthog, server.url, namespace, every=EVERY, cold_start_wait=2.0)
    with Fleet(make, 1) as fleet:
        fleet.call(load)
        until(lambda: kept(state), what="the disk to have it")
        fleet.members[0].kill()
        posthog.fail(503)
        server.client().flushall()
        first, second = fleet.join(2)
        assert first.call(load) == 1
        until(lambda: server.client().dbsize() >= 1 and second.call(load) == 1, 6 * EVERY, what="Redis to be filled")


def test_the_file_is_ours_alone(posthog: StandInControl, make_redis: MakeRedis, namespace: str, state: Path) -> None:
    """Directory and file are for this user only, and the keys for sealing hold on disk too."""
    server = make_redis()
    make = contexts(posthog, server.url, namespace, every=LONG, encryption_key="0123456789abcdef")
    with Fleet(make, 1) as fleet:
        fleet.call(load)
        until(lambda: kept(state), what="the disk to have it")
        (file,) = files(state)
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with closing(sqlite3.connect(file)) as connection:
            (body,) = connection.execute("SELECT body FROM payload").fetchone()
        assert b"flags" not in body


def test_neighbours_on_one_machine_never_meet(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, state: Path
) -> None:
    """Two databases or namespaces on one machine each have their own last known good definitions in an outage."""
    server = make_redis(tcp=True)
    other = server.tcp_url.removesuffix("0") + "3"
    homes = [(server.tcp_url, namespace), (other, namespace), (server.tcp_url, namespace + "-2")]
    for number, (url, name) in enumerate(homes, start=1):
        posthog.serve(make_definitions(5, revision=number))
        with Fleet(contexts(posthog, url, name, every=LONG), 1) as fleet:
            assert fleet.call(load) == [number]
    server.kill()
    posthog.fail(503)
    for number, (url, name) in enumerate(homes, start=1):
        with Fleet(contexts(posthog, url, name, every=LONG, store_timeout=TIMEOUT), 1) as fleet:
            assert fleet.call(load) == [number]
    assert len(files(state)) == 2


def _garbage(file: Path) -> None:
    file.write_bytes(os.urandom(5000))


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:3000])


def _foreign(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE theirs (x)")


@pytest.mark.parametrize("spoil", [_garbage, _truncated, _foreign])
def test_a_spoilt_file_is_set_aside(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, state: Path, spoil: Callable[[Path], None]
) -> None:
    """Another program's file is renamed, reported once, and a new file is created; workers on Redis notice nothing."""
    server = make_redis()
    with Fleet(contexts(posthog, server.url, namespace, every=LONG), 1) as fleet:
        fleet.call(load)
        until(lambda: kept(state), what="the disk to have it")
        fleet.members[0].kill()
        (file,) = files(state)
        for log in state.glob("*.sqlite-*"):
            log.unlink()
        spoil(file)
        came = fleet.join(1)[0]
        assert came.call(load) == 1
        assert [line for line in came.call(logs) if "set aside" in line.text]
        assert list(state.glob("*corrupt*"))
        assert posthog.requests == 1
        server.kill()
        assert fleet.join(1)[0].call(load) == 1


def _a_file(state: Path) -> None:
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text("in the way")


def _a_link(state: Path) -> None:
    elsewhere = state.parent / "elsewhere"
    elsewhere.mkdir(parents=True)
    state.symlink_to(elsewhere)


def _open_to_all(state: Path) -> None:
    state.mkdir(parents=True)
    state.chmod(0o777)


def _another_users(state: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    state.mkdir(parents=True, mode=0o700)
    os.chown(state, 12345, 12345)


@pytest.mark.parametrize("spoil", [_a_file, _a_link, _open_to_all, _another_users])
def test_no_directory_but_ours_is_used(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, state: Path, spoil: Callable[[Path], None]
) -> None:
    """A file, a link or a directory that others own or may write is refused, with one warning; all else works."""
    spoil(state)
    server = make_redis()
    with Fleet(contexts(posthog, server.url, namespace, every=EVERY, store_timeout=TIMEOUT), 2) as fleet:
        assert fleet.call(load) == [1, 1]
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=6 * EVERY)
        server.kill()
        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=20 * EVERY)  # each for itself
        for lines in fleet.call(logs):
            assert len([line for line in lines if "answers, and nothing else changes" in line.text]) == 1
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
    assert not list(state.parent.rglob("*.sqlite"))


def test_none_goes_without(posthog: StandInControl, redis_server: RedisServer, namespace: str, state: Path) -> None:
    """With `fallback=None` nothing is written to the disk."""
    cache = RedisFlagDefinitionCache(redis_server.url, namespace, fallback=None)
    assert cache.should_fetch_flag_definitions() is True
    cache.on_flag_definitions_received({"flags": [], "group_type_mapping": {}, "cohorts": {}})
    assert not state.exists()
    assert posthog.requests == 0
    cache.shutdown()
