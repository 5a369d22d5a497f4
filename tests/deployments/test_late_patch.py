"""gevent patches after a cache was made: gunicorn's `--preload -k gevent`, and an application that patches late.

Threads that the SDK starts before that are real ones, and continue beside greenlets. The plain SDK does this too, and
is measured in the same run.
"""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.servers import MakeRedis, RedisServer, until
from tests.support.snippets import snippet
from tests.support.web_applications import FLAG, ServedApplication, start_posthog, with_times

GUNICORN = ("gunicorn", "--no-control-socket", "-b", "127.0.0.1:PORT", "-w", "4", "--preload")

EVERY = 3.0
"""Seconds between two polls of a client."""

AT_REST = 10.0
"""Seconds for which the processors' time of each worker is counted."""

SPARE = 5.0
"""Seconds by which a busy machine may be late."""

WSGI = with_times(snippet("docs/gunicorn.md", "app.py"), refresh_interval=EVERY)
LOG = "import logging\n\nlogging.basicConfig(level='INFO', format='%(message)s')\n"
BEFORE_THE_FORK = {
    "made": "",
    "attached": "\ncache.attach(client)\n",
    "loaded": "\nclient.load_feature_flags()\n",
    "attached and loaded": "\ncache.attach(client)\nclient.load_feature_flags()\n",
}
NOT_PUSHED = "with its polls, without push"


class FleetRun(NamedTuple):
    """What was seen of a fleet."""

    busiest: float
    """Seconds of a processor's time that one worker used while nothing happened."""
    change: float
    """Seconds until all workers had a change."""
    end: float
    """Seconds that the server took to exit."""
    requests: int
    """Number of requests for definitions while nothing happened."""
    log: str


SYSTEM_IS_KNOWN = "import distro\n\ndistro.info()\ndistro.name()\n"
"""The plain SDK's first event would fork, and a request be answered twice; the cache sees to it beforehand."""


def without_cache(app: str) -> str:
    """Make the docs' application use the plain SDK."""
    assert app.count("flag_definition_cache_provider=cache,") == 1
    kept = [line for line in app.splitlines() if "cache = " not in line and "flagcache" not in line]
    plain = "\n".join(kept).replace("flag_definition_cache_provider=cache,", "").replace("cache.attach(client)", "")
    return f"{SYSTEM_IS_KNOWN}{plain}\n"


def cpu_seconds(pid: int) -> float:
    """Return the seconds of a processor's time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_fleet(application: ServedApplication, *words: str) -> FleetRun:
    """Run a fleet of four: start, rest, a change, the end."""
    with application.run(*words):
        application.program.get(application.port)  # fails if it could not start
        application.wait_for_value("True", workers=4, at_once=True)
        before, asked = {pid: cpu_seconds(pid) for pid in application.workers}, application.posthog.requests
        time.sleep(AT_REST)
        busiest = max(cpu_seconds(pid) - then for pid, then in before.items())
        requests = application.posthog.requests - asked
        assert set(before) == application.workers
        application.posthog.set_flag(FLAG, active=False)
        changed_at = time.monotonic()
        application.wait_for_value("False", workers=4, within=2 * EVERY + SPARE)
        change = time.monotonic() - changed_at
        ends_at = time.monotonic()
        application.program.send(signal.SIGTERM)
        assert application.program.wait(30.0) == 0
        end = time.monotonic() - ends_at
        until(lambda: not application.program.left_behind(), 5.0, what="all processes to end")
        return FleetRun(busiest, change, end, requests, application.program.log)


def run_both(folder: Path, server: RedisServer, app: str, *words: str) -> tuple[FleetRun, FleetRun]:
    """Run a fleet with the cache and, at the same time, one of the plain SDK."""

    def run(text: str, database: int) -> FleetRun:
        with start_posthog() as posthog:
            application = ServedApplication(folder / str(database), posthog, server, {}, database=database)
            (folder / str(database) / "app.py").write_text(LOG + text.replace("PORT", str(application.port)))
            return run_fleet(application, *words)

    with ThreadPoolExecutor() as pool:
        cached, plain = pool.submit(run, app, 0), pool.submit(run, without_cache(app), 1)
        return cached.result(), plain.result()


def compare(cached: FleetRun, plain: FleetRun) -> None:
    """No worker of the cache is busier or later than one of the plain SDK, and the fleet fetches as one."""
    assert cached.busiest < plain.busiest + 0.1 * AT_REST, (cached, plain)
    assert cached.end < plain.end + 2.0, (cached, plain)
    assert "runtime/guard.py" not in cached.log  # it is in each traceback that we log
    assert cached.requests <= AT_REST / (0.9 * EVERY) + 1


@pytest.mark.parametrize("before", BEFORE_THE_FORK)
def test_gunicorn_patches_after_a_preload(tmp_path: Path, make_redis: MakeRedis, before: str) -> None:
    """Workers rest, take changes with their polls, report once each that push is off, and end as with the SDK alone."""
    app = WSGI + BEFORE_THE_FORK[before]
    cached, plain = run_both(tmp_path, make_redis(), app, *GUNICORN, "-k", "gevent", "app:app")
    compare(cached, plain)
    assert cached.log.count(NOT_PUSHED) == 4


def test_threads_that_nothing_patches_are_pushed_changes(tmp_path: Path, make_redis: MakeRedis) -> None:
    """With real threads changes are pushed to a preloaded fleet."""
    app = WSGI + BEFORE_THE_FORK["attached and loaded"]
    cached, plain = run_both(tmp_path, make_redis(), app, *GUNICORN, "-k", "gthread", "app:app")
    compare(cached, plain)
    assert NOT_PUSHED not in cached.log


# Not under gunicorn: gevent cannot patch during an import while another thread imports (gevent 26.9). All hooks of the
# exit run; CPython's own finalization does not, which can crash beside real threads whose `threading` was patched.
FOUR = """
import os, signal, socket, sys

listener = socket.create_server(("127.0.0.1", PORT))
pids = []
while len(pids) < 4 and (pid := os.fork()):
    pids.append(pid)
if len(pids) == 4:
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(pid, signal.SIGTERM) for pid in pids])
    sys.exit(max([os.waitpid(pid, 0)[1] for pid in pids]))

"""
PATCH_AND_SERVE = """
import atexit
from gevent import monkey

monkey.patch_all()
import gevent
from gevent.pywsgi import WSGIServer

server = WSGIServer(socket.socket(fileno=listener.detach()), app, log=None)
gevent.signal_handler(signal.SIGTERM, server.stop)
server.serve_forever()
atexit._run_exitfuncs()
os._exit(0)
"""


@pytest.mark.parametrize("before", ["made", "attached"])
def test_an_application_patches_late(tmp_path: Path, make_redis: MakeRedis, before: str) -> None:
    """A process that patches after cache and client were created, with their threads running, still takes changes."""
    app = FOUR + WSGI + BEFORE_THE_FORK[before] + PATCH_AND_SERVE
    cached, plain = run_both(tmp_path, make_redis(), app, "app")
    compare(cached, plain)
    assert cached.log.count(NOT_PUSHED) == 4
