# mypy: disable-error-code="import-untyped"
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# Celery has no types.
"""Real programs whose processes live for one job: RQ, Celery with one task per child, Django's commands.

RQ's and Celery's processes end by `os._exit`, and run no hook of Python's. Beside each the plain SDK does the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import pytest
import rq
from celery import Celery
from redis import Redis

from flagcache_posthog.testing import Hang, RemoteStandIn, make_definitions
from tests.support.request_pace import let_pass
from tests.support.servers import RedisServer, newest_binary, until
from tests.support.user_programs import Program, posthog_environment

EVERY = 2.5
"""Seconds of a refresh interval: a fetch counts as missed two seconds after it was due."""

REST = 2.2 * EVERY
"""Seconds between two jobs: two intervals, and past the end of a lease of two polls that a job left by protocol."""

PLAIN_TIMEOUT = 10.0
"""Seconds that the SDK waits for PostHog (posthog 7.91, `client.py`, `_request_flag_definitions`)."""

KINDS = ("attached", "protocol", "plain")

FLAGS = f"""
import os, time

from posthog import Posthog

from flagcache import RedisFlagDefinitionCache

kind, cache = os.environ["KIND"], None
if kind != "plain":
    options = {{}} if kind == "attached" else {{"auto_attach": False}}
    cache = RedisFlagDefinitionCache(os.environ["REDIS_URL"], kind, refresh_interval={EVERY}, **options)
key, secret, host = (os.environ[f"POSTHOG_{{name}}"] for name in ("PROJECT_API_KEY", "SECRET_KEY", "HOST"))
polls = 30 if kind == "attached" else {EVERY}  # attached, a job leaves a lease of 45 s, which must not matter
posthog = Posthog(key, secret_key=secret, host=host, poll_interval=polls, flag_definition_cache_provider=cache)


def report():
    began = time.monotonic()
    variant = posthog.evaluate_flags("user", only_evaluate_locally=True).get_flag("revision")
    return [os.getpid(), variant, time.monotonic() - began]
"""

TASKS = """
import os

from celery import Celery

import flags
from flagcache_posthog import celery

app = Celery("tasks", broker=os.environ["BROKER_URL"], backend=os.environ["BROKER_URL"])
report = app.task(flags.report, name="tasks.report")
if os.environ["HELPED"] == "yes" and flags.cache is not None:
    celery.install()
"""

MANAGE = """
import os, sys

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""

COMMAND = """
import json

from django.core.management.base import BaseCommand

import flags


class Command(BaseCommand):
    def handle(self, *args, **options):
        self.stdout.write(json.dumps(flags.report()))
"""


class JobResult(NamedTuple):
    """The report of a job."""

    pid: int
    revision: str | None
    took: float
    """Seconds of its one evaluation."""


Run = Callable[[], JobResult]
"""Runs one job to its end."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One server for all fleets here: jobs come over TCP, flags over the unix socket."""
    with RedisServer(newest_binary(), tcp=True) as server:
        yield server


@pytest.fixture
def places(tmp_path: Path, server: RedisServer, posthog: RemoteStandIn) -> dict[str, tuple[Path, dict[str, str]]]:
    """For each kind a folder with the code, and the environment of its programs."""
    server.client().flushall()
    found: dict[str, tuple[Path, dict[str, str]]] = {}
    for kind in KINDS:
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "flags.py").write_text(FLAGS)
        broker = f"redis://127.0.0.1:{server.port}/{KINDS.index(kind) + 1}"
        more = {"KIND": kind, "REDIS_URL": server.url, "BROKER_URL": broker, "XDG_STATE_HOME": str(folder / "state")}
        found[kind] = folder, posthog_environment(posthog.url, **more)
    return found


@contextmanager
def _rq(folder: Path, environ: dict[str, str]) -> Generator[Run]:
    """One RQ worker, which forks a work horse for each job."""
    url = environ["BROKER_URL"]
    connection = Redis.from_url(url)
    queue = rq.Queue("jobs", connection=connection)

    def run() -> JobResult:
        job = queue.enqueue("flags.report")
        until(lambda: job.get_status() in ("finished", "failed"), 30.0, every=0.02, what="the job to end")
        assert job.is_finished, job.exc_info
        return JobResult(*cast("tuple[int, str | None, float]", job.return_value()))

    command = [sys.executable, "-m", "rq.cli", "worker", "--url", url, "jobs"]
    with Program(folder, command, environ) as program:
        program.prints("Listening on jobs", within=40)
        yield run
    connection.close()


@contextmanager
def _celery(folder: Path, environ: dict[str, str]) -> Generator[Run]:
    """One Celery worker, whose children end after one task."""
    (folder / "tasks.py").write_text(TASKS)
    app = Celery(broker=environ["BROKER_URL"], backend=environ["BROKER_URL"])

    def run() -> JobResult:
        report = app.send_task("tasks.report").get(timeout=30.0, interval=0.02)
        return JobResult(*cast("tuple[int, str | None, float]", report))

    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--loglevel", "INFO"]
    with Program(folder, [*command, "-c", "1", "--max-tasks-per-child", "1"], environ) as program:
        program.prints(" ready.", within=40)
        yield run
    app.close()


@contextmanager
def _django(folder: Path, environ: dict[str, str]) -> Generator[Run]:
    """Commands of one Django project, each a program of its own."""
    commands = folder / "shop" / "management" / "commands"
    commands.mkdir(parents=True)
    for package in (commands, commands.parent, commands.parent.parent):
        (package / "__init__.py").touch()
    (commands / "report.py").write_text(COMMAND)
    (folder / "manage.py").write_text(MANAGE)
    (folder / "settings.py").write_text('SECRET_KEY = "x"\nINSTALLED_APPS = ["shop"]\n')

    def run() -> JobResult:
        command = [sys.executable, "-W", "ignore", "manage.py", "report"]
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=True)
        return JobResult(*cast("tuple[int, str | None, float]", json.loads(done.stdout)))

    yield run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "helped"),
    [(_rq, "no"), (_celery, "no"), (_celery, "yes"), (_django, "no")],
    ids=["rq", "celery", "celery-helped", "manage.py"],
)
def test_the_second_job_after_a_change_has_it(
    places: dict[str, tuple[Path, dict[str, str]]],
    posthog: RemoteStandIn,
    program: Callable[[Path, dict[str, str]], AbstractContextManager[Run]],
    helped: str,
) -> None:
    """Jobs in a row, two intervals apart, PostHog taking 0.3 s: as new as a plain client's, at the latest the second.

    None waits longer than the plain client's timeout and a second, also when PostHog says nothing; then the flags of
    before stay.
    """
    posthog.set_delay(0.3)
    with ExitStack() as stack, ThreadPoolExecutor(len(KINDS)) as pool:
        jobs = {
            kind: stack.enter_context(program(folder, {**environ, "HELPED": helped}))
            for kind, (folder, environ) in places.items()
        }

        def all_run() -> dict[str, JobResult]:
            """Run a job of each kind at the same time; no process may do two."""
            under_way = {kind: pool.submit(run) for kind, run in jobs.items()}
            results = {kind: job.result() for kind, job in under_way.items()}
            new = {each.pid for each in results.values()}
            assert not pids & new
            pids.update(new)
            assert max(each.took for each in results.values()) < PLAIN_TIMEOUT + 1.0, results
            return results

        pids: set[int] = set()
        all_run()
        for number in (2, 3):
            posthog.serve(make_definitions(3, revision=number))
            let_pass(REST)
            first = all_run()
            assert first["attached"].revision == first["plain"].revision == f"r{number}"
            let_pass(REST)
            assert {kind: each.revision for kind, each in all_run().items()} == dict.fromkeys(KINDS, f"r{number}")
        posthog.fail(Hang())
        let_pass(REST)
        held_up = all_run()
        assert (held_up["attached"].revision, held_up["protocol"].revision) == ("r3", "r3")
