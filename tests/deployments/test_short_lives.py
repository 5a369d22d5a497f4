"""Processes that live shorter than a fetch: cron jobs, commands, workers with one task a child; and first loads."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

import pytest

from flagcache_posthog.testing import Hang, Refuse, RemoteStandIn, make_definitions
from tests.support.servers import RedisServer, free_port, newest_binary
from tests.support.user_programs import posthog_environment

JOB = Path(__file__).with_name("short_program.py")
EVERY = 0.4
"""Seconds of a refresh interval."""

SLOW = 0.3
"""Seconds that PostHog takes to answer."""

MODES = ["attached", "protocol"]


class JobResult(TypedDict):
    """A job's output, in seconds."""

    revision: str | None
    first: float
    """Its first evaluation."""
    both: float
    """Its first two."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One Redis for all jobs here."""
    with RedisServer(newest_binary()) as server:
        yield server


@dataclass(slots=True)
class Jobs:
    """Starts jobs of one fleet."""

    store_url: str
    namespace: str
    host: str
    state: Path

    def start(self, mode: str, end: str = "exit", **options: float) -> subprocess.Popen[str]:
        """Start one."""
        arguments = json.dumps({"refresh_interval": EVERY, **options})
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", str(JOB), self.store_url, self.namespace, self.host, mode, end, arguments],
            env=posthog_environment(self.host, XDG_STATE_HOME=str(self.state)),
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, mode: str, end: str = "exit", **options: float) -> JobResult:
        """Run one to its end."""
        return ended(self.start(mode, end, **options))


def ended(job: subprocess.Popen[str], *, within: float = 30.0) -> JobResult:
    """Wait until a job ends; return its output."""
    output, _ = job.communicate(timeout=within)
    return cast("JobResult", json.loads(output.splitlines()[-1]))


@pytest.fixture
def jobs(server: RedisServer, namespace: str, posthog: RemoteStandIn, tmp_path: Path) -> Jobs:
    """Of a fleet on Redis."""
    return Jobs(server.url, namespace, posthog.url, tmp_path)


def rest(intervals: float) -> None:
    """Let this many refresh intervals go by between two jobs: nothing runs meanwhile whose state could be asked."""
    time.sleep(intervals * EVERY)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", ["exit", "shutdown"])
def test_each_job_has_a_change_that_came_before_the_job_before(
    jobs: Jobs, posthog: RemoteStandIn, mode: str, end: str
) -> None:
    """If jobs are two intervals apart and PostHog is slow, each job is at most one job behind a plain client."""
    posthog.set_delay(SLOW)
    jobs.run(mode, end)
    ours: list[str | None] = []
    plain: list[str | None] = []
    for number in range(2, 6):
        posthog.serve(make_definitions(3, revision=number))
        rest(2)
        ours.append(jobs.run(mode, end)["revision"])
        plain.append(jobs.run("plain")["revision"])
    assert plain == [f"r{number}" for number in range(2, 6)]
    assert ours == plain


@pytest.mark.parametrize("mode", MODES)
def test_children_that_end_without_exit_hooks_have_changes_too(jobs: Jobs, posthog: RemoteStandIn, mode: str) -> None:
    """In children like Celery's with one task each, the first fetch ends before the task runs."""
    posthog.set_delay(SLOW)
    jobs.run(mode, "_exit", lease=EVERY)
    for number in (2, 3, 4):
        posthog.serve(make_definitions(3, revision=number))
        rest(2)
        assert jobs.run(mode, "_exit", lease=EVERY)["revision"] == f"r{number}"


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_child_that_ends_in_mid_fetch_does_not_keep_the_next_one_from_the_change(
    server: RedisServer, namespace: str, posthog: RemoteStandIn, tmp_path: Path, kind: str
) -> None:
    """After a child with young definitions ended by `os._exit`, others don't wait for the fetch it was granted."""
    jobs = Jobs(server.url if kind == "redis" else f"sqlite:///{tmp_path}/flags.db", namespace, posthog.url, tmp_path)
    every = 4.0
    jobs.run("attached", refresh_interval=every)
    posthog.serve(make_definitions(3, revision=2))
    time.sleep(1.5 * every)
    posthog.hold()
    assert jobs.run("attached", "_exit", refresh_interval=every, first_load_max_age=60.0)["revision"] == "r1"
    posthog.release()
    before = posthog.requests
    result = jobs.run("attached", refresh_interval=every)
    assert result["revision"] == jobs.run("plain")["revision"] == "r2"
    assert result["first"] < 2.0 + 1.0  # a fetch whose holder was silent for two seconds is given to another
    assert posthog.requests - before == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_fleet_that_was_scaled_to_zero_starts_with_current_flags(
    server: RedisServer, namespace: str, posthog: RemoteStandIn, tmp_path: Path, mode: str, kind: str
) -> None:
    """Of workers that start together on old definitions one fetches, and all begin with what it brings."""
    store_url = server.url if kind == "redis" else f"sqlite:///{tmp_path}/flags.db"
    jobs = Jobs(store_url, namespace, posthog.url, tmp_path)
    jobs.run(mode)
    posthog.serve(make_definitions(3, revision=2))
    rest(10)
    before = posthog.requests
    posthog.set_delay(1.0)
    workers = [jobs.start(mode, "exit", refresh_interval=4.0, first_load_max_age=2.0) for _ in range(4)]
    assert [ended(worker)["revision"] for worker in workers] == ["r2"] * 4
    assert posthog.requests - before == 1


@pytest.mark.parametrize("mode", MODES)
def test_definitions_of_the_fallback_file_are_not_taken_for_current(
    server: RedisServer, namespace: str, posthog: RemoteStandIn, tmp_path: Path, mode: str
) -> None:
    """While Redis is down, a first load waits for the fetch as it does with Redis."""
    with RedisServer(newest_binary()) as short:
        Jobs(short.url, namespace, posthog.url, tmp_path).run(mode)
        jobs = Jobs(short.url, namespace, posthog.url, tmp_path)
    posthog.serve(make_definitions(3, revision=2))
    posthog.set_delay(SLOW)
    rest(4)
    assert jobs.run(mode)["revision"] == "r2"


def test_a_job_that_ends_lets_its_fetch_land(jobs: Jobs, posthog: RemoteStandIn) -> None:
    """If a job starts with young definitions, the next one has the result of its fetch."""
    jobs.run("attached")
    posthog.serve(make_definitions(3, revision=2))
    posthog.set_delay(SLOW)
    rest(2)
    assert jobs.run("attached", first_load_max_age=60.0)["revision"] == "r1"
    assert jobs.run("attached", first_load_max_age=60.0)["revision"] == "r2"


def test_a_first_load_takes_the_stored_ones_as_soon_as_the_fetch_fails(jobs: Jobs, posthog: RemoteStandIn) -> None:
    """A refused worker starts at once with what is stored."""
    jobs.run("attached")
    posthog.fail(Refuse(500))
    rest(3)
    result = jobs.run("attached")
    assert result["revision"] == "r1"
    assert result["first"] < 1.0


def test_no_job_waits_longer_than_a_plain_clients_timeout_and_a_second(jobs: Jobs, posthog: RemoteStandIn) -> None:
    """PostHog accepts connections and never answers; the time counts until the job's end, without its start."""
    jobs.run("attached")
    posthog.fail(Hang())
    rest(3)
    began = time.monotonic()
    old = jobs.start("attached", cold_start_wait=2.0)  # old definitions: it waits for its own fetch
    assert ended(old)["revision"] == "r1"
    took = time.monotonic() - began
    assert 2.0 <= took < 10.0 + 1.0
    began = time.monotonic()
    young = jobs.start("attached", first_load_max_age=60.0)
    assert ended(young)["first"] < 1.0
    assert time.monotonic() - began < 1.0 + 3.0


# --- refusals on an empty store ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("trouble", ["wrong key", "refused", "unknown host"])
def test_a_worker_that_cannot_fetch_does_not_wait_for_itself(
    jobs: Jobs, posthog: RemoteStandIn, mode: str, trouble: str
) -> None:
    """If no other process leads, an evaluation takes no longer than the failed fetch, as with a plain client."""
    if trouble == "wrong key":
        posthog.fail(Refuse(401))
    elif trouble == "refused":
        jobs.host = f"http://127.0.0.1:{free_port()}"
    else:
        jobs.host = "http://posthog.invalid"
    plain = jobs.run("plain")
    result = jobs.run(mode)
    assert result["revision"] is plain["revision"] is None
    assert result["both"] < plain["both"] + 1.0


def test_one_that_cannot_fetch_waits_for_one_that_can(jobs: Jobs, posthog: RemoteStandIn, tmp_path: Path) -> None:
    """While a worker that can fetch leads, a refused one waits for the first definitions."""
    posthog.hold(times=1)
    able = jobs.start("attached")
    posthog.wait_for_held(1, timeout=20)
    unable = Jobs(jobs.store_url, jobs.namespace, f"http://127.0.0.1:{free_port()}", tmp_path).start("attached")
    time.sleep(1.5)
    assert unable.poll() is None
    posthog.release()
    assert ended(able)["revision"] == ended(unable)["revision"] == "r1"


def test_after_three_failed_tries_nobody_waits(jobs: Jobs) -> None:
    """Workers that are all refused share three tries, and then all start."""
    jobs.host = f"http://127.0.0.1:{free_port()}"
    workers = [jobs.start("attached", refresh_interval=30.0) for _ in range(6)]
    results = [ended(worker) for worker in workers]
    assert [each["revision"] for each in results] == [None] * 6
    assert max(each["first"] for each in results) < 3.0
