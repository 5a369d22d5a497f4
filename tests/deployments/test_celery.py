# mypy: disable-error-code="import-untyped"
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# Celery has no types.
"""Real Celery workers, with each pool and the tasks of docs/celery.md."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from celery import Celery, signals

from flagcache.errors import MissingExtraError
from flagcache.stores.redis.store import keys_of
from flagcache_posthog import celery as flags
from flagcache_posthog.testing import RemoteStandIn, make_definitions
from tests.support.fleet_tasks import asks
from tests.support.grant_log import log_grants
from tests.support.servers import RedisServer, newest_binary, until
from tests.support.snippets import snippet
from tests.support.user_programs import Program, posthog_environment

EVERY = 0.5
SELDOM = 20.0
"""Seconds between two polls in tests that show a lease which was not given up."""

REPORT = """

@app.task
def report():
    loaded = posthog.feature_flags is not None
    variant = posthog.evaluate_flags("user", only_evaluate_locally=True).get_flag("revision")
    return {"pid": os.getpid(), "loaded": loaded, "revision": variant, "role": cache.status().role.value}


@app.task
def rest():
    return "rested"
"""


class Report(NamedTuple):
    """A task's report about the process in which it runs."""

    pid: int
    loaded: bool
    """Before the task asked for a flag."""
    revision: str
    role: str


class Worker:
    """One `celery worker`, and the client that sends it tasks."""

    program: Program

    def __init__(self, folder: Path, server: RedisServer, env: dict[str, str]) -> None:
        self.folder = folder
        self.environment = env
        self._lease = keys_of(folder.name, 0).lease
        self._admin = server.client()
        self.grants = log_grants(server.url, folder.name)
        self._strangers = set(self._by_socket())
        self._app = Celery(broker=env["BROKER_URL"], backend=env["CELERY_RESULT_BACKEND"])

    def ask(self, name: str, times: int = 1, *, within: float = 20.0) -> list[object]:
        """Send this many tasks at once, and wait for all results."""
        sent = [self._app.send_task(f"tasks.{name}", queue=self.folder.name) for _ in range(times)]
        return [each.get(timeout=within, interval=0.02) for each in sent]

    def reports(self, times: int = 1) -> list[Report]:
        """Let this many tasks report at once."""
        return [Report(**fields) for fields in cast("list[dict[str, Any]]", self.ask("report", times))]

    def ours(self) -> list[str]:
        """Return flagcache's connections at the server: only it and the test use the unix socket."""
        return [number for number in self._by_socket() if number not in self._strangers]

    def _by_socket(self) -> list[str]:
        clients: list[dict[str, str]] = self._admin.client_list()
        return [each["id"] for each in clients if "/s:" in each["addr"]]

    def leased(self) -> bool:
        """Whether a process holds the fleet's lease."""
        return bool(self._admin.exists(self._lease))

    def run(self, *words: str) -> str:
        """Run another Celery command beside the worker, and return what it prints."""
        command = [sys.executable, "-m", "celery", "-A", "tasks", *words]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def end(self) -> None:
        """Shut it down gracefully; nothing may be left except a lease."""
        assert self.program.end(signal.SIGTERM, within=30) == 0
        assert self.program.left_behind() == []
        until(lambda: not self.ours(), what="its connections to end")
        assert "Traceback" not in self.program.log, self.program.log

    def close(self) -> None:
        """Close the connections to the broker and the store."""
        self._app.close()
        self.grants.close()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One server for all fleets here: tasks come over TCP, flags over the unix socket."""
    with RedisServer(newest_binary(), tcp=True) as server:
        yield server


@contextmanager
def worker(
    folder: Path,
    server: RedisServer,
    posthog: RemoteStandIn,
    *args: str,
    every: float = EVERY,
    helped: bool = False,
) -> Generator[Worker]:
    """A worker that takes tasks, with a broker, a backend and a namespace of its own."""
    text = snippet("docs/celery.md", "tasks.py")
    text = text.replace('"my-team"', f'"{folder.name}", refresh_interval={every}')
    text = text.replace("provider=cache", f"provider=cache, poll_interval={every}")
    (folder / "tasks.py").write_text((text if helped else text.replace("flags.install()\n", "")) + REPORT)
    environment = posthog_environment(
        posthog.url,
        REDIS_URL=server.url,
        BROKER_URL=f"redis://127.0.0.1:{server.port}/1",
        CELERY_RESULT_BACKEND=f"redis://127.0.0.1:{server.port}/2",
    )
    celery = Worker(folder, server, environment)
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--loglevel", "INFO", "-Q", folder.name, *args]
    with Program(folder, command, environment) as celery.program:
        try:
            celery.program.prints(" ready.", within=40)
            yield celery
        finally:
            celery.close()


POOLS = pytest.mark.parametrize(
    ("pool", "processes"), [(("prefork", "-c", "3"), 3), (("threads", "-c", "3"), 1), (("gevent", "-c", "20"), 1)]
)


@POOLS
def test_a_worker_needs_no_help(
    tmp_path: Path, server: RedisServer, posthog: RemoteStandIn, pool: tuple[str, ...], processes: int
) -> None:
    """All processes share one fetch, each first task has flags, a change reaches all, SIGTERM ends all."""
    with worker(tmp_path, server, posthog, "--pool", *pool) as celery:
        first = celery.reports(12)
        assert {report.revision for report in first} == {"r1"}

        def pids_of(revision: str) -> set[int]:
            return {report.pid for report in celery.reports(6) if report.revision == revision}

        seen = until(lambda: now if len(now := pids_of("r1")) == processes else set[int](), 20, what="all to work")
        assert posthog.full_fetches == 1
        posthog.serve(make_definitions(5, revision=2))
        until(lambda: pids_of("r2") == seen, 20, what="all to have the change")
        assert posthog.full_fetches == 2
        assert celery.grants.one_an_interval(asks(posthog), EVERY)
        celery.end()
        until(lambda: not celery.leased(), what="its lease to end")


@pytest.mark.parametrize("helped", [False, True], ids=["alone", "helped"])
def test_children_that_are_replaced_after_each_task_fetch_nothing_anew(
    tmp_path: Path, server: RedisServer, posthog: RemoteStandIn, helped: bool
) -> None:
    """The first and only task of each new child has flags, and PostHog sends the definitions once."""
    pool = ("--pool", "prefork", "-c", "2", "--max-tasks-per-child", "1")
    with worker(tmp_path, server, posthog, *pool, helped=helped) as celery:
        reports = [report for _ in range(2) for report in celery.reports(3)]
        assert len({report.pid for report in reports}) == 6
        assert {report.revision for report in reports} == {"r1"}
        assert posthog.full_fetches == 1
        assert celery.grants.one_an_interval(asks(posthog), EVERY)
        assert not helped or all(report.loaded for report in reports)
        celery.end()


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_a_line_loads_before_the_first_task_and_hands_the_lease_over(
    tmp_path: Path, server: RedisServer, posthog: RemoteStandIn, pool: str
) -> None:
    """A start costs one request, no task waits for flags, and no lease is left for which others would wait."""
    with worker(tmp_path, server, posthog, "--pool", pool, "-c", "2", every=SELDOM, helped=True) as celery:
        assert all(report.loaded and report.revision == "r1" for report in celery.reports(6))
        assert celery.leased()
        connections = len(celery.ours())
        if pool == "threads":  # a program that only imports the tasks makes no request
            assert "pong" in celery.run("inspect", "ping")
            with Program(beat := tmp_path / "beat", _beat(beat), celery.environment) as scheduler:
                scheduler.prints("beat: Starting...")
                assert scheduler.end(within=30) == 0
            assert len(celery.ours()) == connections
        assert posthog.requests == 1
        celery.end()
        assert not celery.leased()


def _beat(folder: Path) -> list[str]:
    folder.mkdir()
    (folder / "tasks.py").write_text((folder.parent / "tasks.py").read_text())
    return [sys.executable, "-m", "celery", "-A", "tasks", "beat", "--loglevel", "INFO"]


def test_a_leading_child_that_is_replaced_hands_the_lease_over(
    tmp_path: Path, server: RedisServer, posthog: RemoteStandIn
) -> None:
    """Another child leads at once, although the lease would have lasted for long."""
    pool = ("--pool", "prefork", "-c", "2", "--max-tasks-per-child", "4")
    with worker(tmp_path, server, posthog, *pool, every=SELDOM, helped=True) as celery:
        first = until(lambda: {r.pid for r in celery.reports(2) if r.role == "leader"}, every=0.2, what="a leader")
        until(
            lambda: {r.pid for r in celery.reports(2) if r.role == "leader"} - first, every=0.2, what="another leader"
        )
        assert posthog.full_fetches == 1


def test_a_posthog_that_hangs_keeps_no_child_from_starting(
    tmp_path: Path, server: RedisServer, posthog: RemoteStandIn
) -> None:
    """Celery kills a child that is not up after 4 s, so a start does not wait that long for flags."""
    posthog.hold()
    with worker(tmp_path, server, posthog, "--pool", "prefork", "-c", "2", helped=True) as celery:
        assert celery.ask("rest", 4) == ["rested"] * 4
        assert posthog.requests == 1
        posthog.release()
        assert celery.reports()[0].revision == "r1"
        assert "Timed out" not in celery.program.log
        celery.end()


def test_without_celery_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the module needs no Celery, but `install` does."""
    for name in ("celery", "celery.signals"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="pip install celery"):
        flags.install()


def test_a_failure_of_ours_keeps_no_worker_from_starting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure is logged and never reaches Celery. A second `install` does nothing."""
    calls: list[str] = []

    def fails() -> None:
        calls.append("called")
        raise ValueError("of ours")

    monkeypatch.setattr(flags, "leave_fleet", fails)
    flags.install()
    flags.install()
    try:
        answers = signals.worker_process_shutdown.send(sender="test", pid=1, exitcode=0)
        assert [answer for _, answer in answers] == [None]
    finally:
        for name in ("worker_process_init", "worker_process_shutdown", "worker_ready"):
            getattr(signals, name).disconnect(dispatch_uid=f"flagcache.{name}")
    assert calls == ["called"]
    assert "leaving the fleet failed" in caplog.text
