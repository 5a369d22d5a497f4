"""A web fleet under gunicorn whose workers write each event of their cache to gunicorn's log."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

from typing_extensions import Self

from tests.support.scenario import Backends
from tests.support.servers import free_port, until
from tests.support.user_programs import Program, posthog_environment

__all__ = ["WebFleet"]

_APP = """
import os
import time
from flagcache_posthog import from_url
from posthog import Posthog

def say(event):
    print("EVENT", os.getpid(), type(event).__name__, time.monotonic(), flush=True)

store, namespace, refresh = os.environ["STORE"], os.environ["NAMESPACE"], float(os.environ["REFRESH"])
cache = from_url(store, namespace, refresh_interval=refresh, on_event=say)
client = Posthog(
    os.environ["POSTHOG_PROJECT_API_KEY"],
    secret_key=os.environ["POSTHOG_SECRET_KEY"],
    host=os.environ["POSTHOG_HOST"],
    poll_interval=float(os.environ["POLLS"]),
    flag_definition_cache_provider=cache,
)

def app(environ, start_response):
    flags = client.evaluate_flags("user-1", only_evaluate_locally=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {flags.get_flag('revision')}".encode()]
"""

_HELPER = "from flagcache_posthog.gunicorn import *\n"


class WebFleet:
    """gunicorn with this many workers, loaded before their first request; a context manager that ends it.

    Args:
        folder: Where it runs.
        backends: The fleet's PostHog and store.
        workers: How many.
        refresh: Seconds between two requests of the fleet to PostHog.
        polls: Seconds between two polls of a client.
        more: Further arguments of gunicorn.
    """

    def __init__(
        self, folder: Path, backends: Backends, *more: str, workers: int = 4, refresh: float, polls: float
    ) -> None:
        (folder / "app.py").write_text(_APP)
        (folder / "gunicorn.conf.py").write_text(_HELPER)
        self.port = free_port()
        words = [
            "gunicorn",
            "--no-control-socket",
            "-b",
            f"127.0.0.1:{self.port}",
            "-w",
            str(workers),
            *more,
            "app:app",
        ]
        environ = posthog_environment(
            backends.posthog.url,
            STORE=backends.store_url,
            NAMESPACE=backends.namespace,
            REFRESH=str(refresh),
            POLLS=str(polls),
            XDG_STATE_HOME=str(folder / "state"),
        )
        self.program = Program(folder, [sys.executable, "-m", *words], environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.program.__exit__(*exc)
        if exc[0] is not None:
            sys.stdout.write(self.program.log)  # pytest shows it with the failure

    @property
    def workers(self) -> set[int]:
        """The processes of the server but its first."""
        return {pid for pid in self.program.processes() if pid != self.program.pid}

    def reload(self) -> None:
        """Replace all workers (HUP), and wait until the new ones hold definitions."""
        before = self.workers
        self.program.send(signal.SIGHUP)
        until(
            lambda: len(set(self.pids_with_event("DefinitionsChanged")) - before) >= len(before),
            20,
            every=0.05,
            what="a reload",
        )

    def loaded_at(self, pids: set[int]) -> float:
        """When the first of these processes held definitions, in seconds of the machine's monotonic clock."""
        lines = re.findall(r"EVENT (\d+) DefinitionsChanged ([\d.]+)", self.program.log)
        return min(float(at) for pid, at in lines if int(pid) in pids)

    def pids_with_event(self, event: str) -> list[int]:
        """The processes in which such an event happened, once for each."""
        return [int(pid) for pid in re.findall(rf"EVENT (\d+) {event}\b", self.program.log)]
