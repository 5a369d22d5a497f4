from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from flagcache_posthog import _lifecycle
from flagcache_posthog.gunicorn import worker_exit
from flagcache_posthog.testing import Hang, make_certificate
from tests.support.servers import MakeRedis, until
from tests.support.snippets import snippet
from tests.support.web_applications import EVERY, FLAG, ServedApplication, start_posthog, with_times

GUNICORN = ("gunicorn", "--no-control-socket", "-b", "127.0.0.1:PORT")
UVICORN = "uvicorn_worker.UvicornWorker"
WORKERS = ("sync", "gthread", "gevent", "asgi", UVICORN)

WSGI = snippet("docs/gunicorn.md", "app.py")
ASGI = snippet("docs/asgi.md", "app.py: with a lifespan").replace("lifespan=flags_lifespan(client)", "")
HELPER = snippet("docs/gunicorn.md", "gunicorn.conf.py: the helper")
BESIDE_HOOKS = snippet("docs/gunicorn.md", "gunicorn.conf.py: beside hooks of your own")
PATCHED = snippet("docs/gunicorn.md", "gunicorn.conf.py: gevent with --preload")


def app_for(worker: str) -> str:
    """Return the docs' application for a worker class."""
    return ASGI if worker in ("asgi", UVICORN) else WSGI


# --- with nothing to call --------------------------------------------------------------------------------------------


def at_rest(application: ServedApplication) -> bool:
    """Whether no worker starts or ends, so that gunicorn's master can end all of them properly.

    It also sends SIGTERM to a worker that has reached its last request, which then dies before its exit hooks have run;
    a gevent worker that has just started does not notice the signal.
    """
    application.wait_for_value("False", at_once=True)
    ending = re.findall(r"\[(\d+)\] \[INFO\] Autorestarting worker", application.program.log)
    return application.workers.isdisjoint(map(int, ending))


def live_and_die(application: ServedApplication, *, lapse: float) -> None:
    """Play all that happens to a fleet, from its cold start to its end."""
    application.wait_for_value("True", at_once=True)
    application.check_requests(changes=0)
    application.posthog.set_flag(FLAG, active=False)
    application.wait_for_value("False")
    before = application.seen
    application.program.send(signal.SIGHUP)
    until(lambda: application.burst() and not before & application.workers, 40.0, what="a reload")
    application.wait_for_value("False", at_once=True)
    before = application.seen
    until(lambda: application.burst() and len(application.seen - before) >= 2, 40.0, what="two workers to be replaced")
    application.wait_for_value("False", at_once=True)
    application.check_requests(changes=1)
    until(lambda: at_rest(application), 40.0, what="two workers that go on")
    assert application.program.end() == 0
    application.check_nothing_left(lapse=lapse)


@pytest.mark.parametrize("worker", WORKERS)
def test_a_fleet_needs_no_call(tmp_path: Path, make_redis: MakeRedis, worker: str) -> None:
    """With and without --preload, through changes, reloads and recycling, a fleet shares fetches and leaves nothing."""
    server = make_redis()
    certificate = make_certificate(tmp_path) if worker == "gevent" else None  # https is what a late patch breaks
    # The asgi class would take uvloop, which loses a signal that comes before it runs: its worker would not end then.
    words = [*GUNICORN, "-w", "2", "-k", worker, "--max-requests", "80", "--asgi-loop", "asyncio", "app:app"]
    # The test doesn't wait for such a lease to expire: it has to be given up. uvicorn's workers die by SIGTERM and
    # can't.
    lease = EVERY if worker == UVICORN else 60.0

    def play(*more: str, database: int) -> None:
        files = {"app.py": with_times(app_for(worker), refresh_interval=EVERY, lease=lease, first_load_max_age=60.0)}
        if more and worker == "gevent":
            files["gunicorn.conf.py"] = PATCHED.replace(HELPER.splitlines()[-1], "")
        with start_posthog(certificate) as posthog:
            application = ServedApplication(tmp_path / str(database), posthog, server, files, database=database)
            with application.run(*words, *more):
                live_and_die(application, lapse=10.0 if worker == UVICORN else 0.0)

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(play, database=0), pool.submit(play, "--preload", database=1)]:
            done.result()


# --- with the helper -------------------------------------------------------------------------------------------------


def loaded(application: ServedApplication) -> list[int]:
    """Return the workers that have logged in gunicorn's log that they hold definitions, one entry for each line."""
    line = r"^\[[-:+ \d]+\] \[(\d+)\] \[(?:INFO|DEBUG)\] flagcache\[shop\] \S+: definitions \w+ (?:fetched|taken)"
    return [int(pid) for pid in re.findall(line, application.program.log, re.MULTILINE)]


@pytest.mark.parametrize("worker", [*WORKERS, "gevent --preload"])
def test_with_the_helper_a_worker_is_loaded_and_hands_over(tmp_path: Path, make_redis: MakeRedis, worker: str) -> None:
    """Flags are loaded before the first request and logged once by gunicorn; an exiting leader is replaced at once."""
    server, how = make_redis(), worker.split()
    conf = PATCHED if "--preload" in how else HELPER
    with start_posthog() as posthog:
        application = ServedApplication(
            tmp_path, posthog, server, {"app.py": app_for(how[0]), "gunicorn.conf.py": conf}
        )
        with application.run(*GUNICORN, "--log-level", "debug", "-w", "2", "-k", *how, "app:app"):
            until(lambda: len(loaded(application)) == 2, 40.0, every=0.05, what="two loaded workers")
            if worker == "asgi":  # uvloop loses a signal that comes before it runs
                until(
                    lambda: application.program.log.count("ASGI server listening") == 2, 40.0, what="two running loops"
                )
            first = application.leader
            os.kill(first, signal.SIGTERM)
            # Its lease has 30 to 45 seconds left.
            until(lambda: application.leader not in (0, first), 25.0, every=0.05, what="another leader")
            until(lambda: len(loaded(application)) == 3, 40.0, every=0.05, what="a third loaded worker")
            assert posthog.requests == 1
            posthog.fail(Hang())
            server.freeze()
            application.wait_for_value("True", at_once=True)
            server.thaw()
            assert sorted(loaded(application)) == sorted({first} | application.workers)
            assert application.program.end() == 0
            application.check_nothing_left()


def test_hooks_and_a_log_of_a_users_own(tmp_path: Path, make_redis: MakeRedis) -> None:
    """The docs' way to combine hooks runs both, before exit handlers; a configured logger gets each line."""
    log = 'import logging\n\nlogging.basicConfig(level="INFO", format="MINE %(message)s")\n'
    late = "\nimport atexit, time\n\natexit.register(lambda: (time.sleep(2), print('my exit handler: done')))\n"
    with start_posthog() as posthog:
        application = ServedApplication(
            tmp_path, posthog, make_redis(), {"app.py": log + WSGI + late, "gunicorn.conf.py": BESIDE_HOOKS}
        )
        with application.run(*GUNICORN, "app:app"):
            application.program.prints("my own hook: ready")
            assert application.leader
            application.program.send(signal.SIGTERM)
            until(lambda: not application.leader, what="the lease to be given up")
            assert "my exit handler: done" not in application.program.log
            assert application.program.wait() == 0
            assert "my exit handler: done" in application.program.log
            assert loaded(application) == []
            assert (
                len(re.findall(r"^MINE flagcache\[shop\] \S+: definitions", application.program.log, re.MULTILINE)) == 1
            )
            assert application.program.log.count("my own hook: gone") == 1
            application.check_nothing_left()


def test_a_worker_starts_when_all_is_down(tmp_path: Path, make_redis: MakeRedis) -> None:
    """A worker may wait longer than gunicorn's --timeout for flags: it is not killed, and serves without them."""
    server = make_redis()
    app = with_times(WSGI, cold_start_wait=4.0)
    with start_posthog() as posthog:
        posthog.fail(Hang())
        application = ServedApplication(tmp_path, posthog, server, {"app.py": app, "gunicorn.conf.py": HELPER})
        server.stop()
        with application.run(*GUNICORN, "--timeout", "2", "app:app"):
            application.program.prints("all flags are off until some arrive")
            posthog.recover()  # the SDK asks PostHog about a flag that it does not know
            application.wait_for_value("True", workers=1)
            assert "WORKER TIMEOUT" not in application.program.log
            assert application.program.log.count("Booting worker") == 1


def test_a_late_patch_is_told(tmp_path: Path, make_redis: MakeRedis) -> None:
    """With --preload gevent patches too late for the SDK, unless it is patched first; one line names the remedy."""
    with start_posthog() as posthog:
        application = ServedApplication(tmp_path, posthog, make_redis(), {"app.py": WSGI, "gunicorn.conf.py": HELPER})
        with application.run(*GUNICORN, "-k", "gevent", "--preload", "app:app"):
            application.program.prints("begin gunicorn.conf.py with `from gevent import monkey; monkey.patch_all()`")


def test_the_helper_imports_neither_the_sdk_nor_gunicorn() -> None:
    """The configuration is read before gevent patches, so it must import nothing that has to come after that."""
    script = "import sys; from flagcache_posthog.gunicorn import *; print(*sys.modules); assert 'worker_exit' in dir()"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert {name.partition(".")[0] for name in output.split()} & {"gunicorn", "posthog", "requests", "ssl"} == set()


def test_the_master_does_not_leave_for_a_dead_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The master calls `worker_exit` for a worker that it finds dead: only the worker's own call counts."""
    left: list[str] = []
    monkeypatch.setattr(_lifecycle, "leave_fleet", lambda: left.append("left"))
    for pid in (os.getpid() + 1, os.getpid()):
        worker_exit(cast("Arbiter", None), cast("Worker", SimpleNamespace(pid=pid)))
    assert left == ["left"]
