"""Web fleets under test: the applications of the docs behind a server, called over HTTP, with a record of answers.

Each page of the docs' applications says which process answers and whether the flag `new-checkout` is on.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from typing_extensions import Self

from flagcache.stores.redis.store import RedisStore
from flagcache_posthog.testing import Certificate, PostHogStandIn, RemoteStandIn, make_definitions, make_flag
from tests.support.fleet_tasks import asks
from tests.support.grant_log import log_grants
from tests.support.servers import RedisServer, free_port, until
from tests.support.user_programs import Program, get, posthog_environment

__all__ = ["EVERY", "FLAG", "ServedApplication", "start_posthog", "with_times"]

FLAG = "new-checkout"

EVERY = 0.5
"""Seconds between two polls, and between two fetches of a fleet: 30 in the docs' applications."""

_NAMESPACE = "shop"

_OURS = {"client|list", "monitor", "ping", "echo"}
"""The events of a test's connections."""


def start_posthog(certificate: Certificate | None = None) -> RemoteStandIn:
    """Start a PostHog whose flag is on for all users; all its flags can be evaluated without asking it.

    Args:
        certificate: for https.
    """
    definitions = make_definitions(0)
    served = {**definitions, "flags": [*definitions["flags"], make_flag(FLAG)]}
    return PostHogStandIn.spawn(served, certificate=certificate)


def with_times(app: str, **options: float) -> str:
    """Give an application of the docs other times than the defaults; nothing else in it changes.

    Args:
        app: its text.
        options: of the cache; the client polls at the `refresh_interval`.
    """
    arguments = "".join(f", {name}={seconds}" for name, seconds in options.items())
    assert app.count('"shop")') == app.count("flag_definition_cache_provider=cache") == 1
    polls = f"poll_interval={options['refresh_interval']}, " if "refresh_interval" in options else ""
    return app.replace('"shop")', f'"shop"{arguments})').replace(
        "flag_definition_cache_provider=", f"{polls}flag_definition_cache_provider="
    )


class ServedApplication:
    """One fleet behind a port, while a `with` block lasts.

    Args:
        folder: made for it; where it runs.
        posthog: its own.
        server: a Redis that may serve several.
        database: of that Redis, its own.
        files: the files in the folder, `app.py` and others.
    """

    def __init__(
        self, folder: Path, posthog: RemoteStandIn, server: RedisServer, files: Mapping[str, str], *, database: int = 0
    ) -> None:
        self.port = free_port()
        self.posthog = posthog
        self._database = database
        self._url = f"unix://{server.socket_path}?db={database}"
        self._admin = server.client()
        self._grants = log_grants(self._url, _NAMESPACE)
        self._folder = folder
        self._seen: set[int] = set()
        self._program: Program | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)

    def run(self, *command: str, **environ: str) -> Self:
        """Start a server with `python -m`; `PORT` in its arguments is the port."""
        words = [word.replace("PORT", str(self.port)) for word in command]
        state, trusted = str(self._folder / "state"), self.posthog.ca_file
        more = {"REQUESTS_CA_BUNDLE": trusted} if trusted else {}
        environment = posthog_environment(
            self.posthog.url, REDIS_URL=self._url, XDG_STATE_HOME=state, **more, **environ
        )
        self._program = Program(self._folder, [sys.executable, "-m", *words], environment)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.program.__exit__(*exc)
        self._grants.close()
        if exc[0] is not None:
            sys.stdout.write(self.program.log)  # pytest shows it with the failure

    @property
    def program(self) -> Program:
        """The server's processes."""
        assert self._program is not None, "it was not started"
        return self._program

    @property
    def workers(self) -> set[int]:
        """Return all processes of the server except its first, and multiprocessing's helper if it spawns."""
        return {pid for pid in self.program.processes() if pid != self.program.pid and not _is_tracker(pid)}

    @property
    def seen(self) -> set[int]:
        """The processes that have answered so far."""
        return set(self._seen)

    @property
    def leader(self) -> int:
        """Pid of the process that has the lease now; 0 if none has."""
        with contextlib.closing(RedisStore(self._url, _NAMESPACE)) as store:
            name = store.inspect().leader
        return int(name.split(":")[-2]) if name else 0

    def connections(self) -> list[str]:
        """The connections that clients hold to its database."""
        clients = self._admin.client_list()
        return [c["name"] or c["addr"] for c in clients if c["db"] == str(self._database) and c["cmd"] not in _OURS]

    def ask(self) -> tuple[int, str]:
        """Request the page; returns which process answered, and its value of the flag."""
        while not (answer := self._ask_once(10.0)):
            time.sleep(0.02)  # a worker that ends while it is asked drops the connection, as ever
        return answer[0]

    def _ask_once(self, timeout: float) -> list[tuple[int, str]]:
        with contextlib.suppress(OSError, http.client.HTTPException):
            pid, value = get(self.port, timeout=timeout).strip('"').split()
            self._seen.add(int(pid))
            return [(int(pid), value)]
        return []

    def _ask_others(self, asked: set[int]) -> list[tuple[int, str]]:
        """Ask once while these stand still: the system may give all requests to one of several idle workers."""
        standing = asked & self.workers
        for pid in standing:
            _signal(pid, signal.SIGSTOP)
        try:
            return self._ask_once(2.0)
        finally:
            for pid in standing:
                _signal(pid, signal.SIGCONT)

    def burst(self, times: int = 4) -> list[tuple[int, str]]:
        """Ask this often at the same time, so that several workers are busy."""
        with ThreadPoolExecutor(times) as pool:
            return [asked.result() for asked in [pool.submit(self.ask) for _ in range(times)]]

    def wait_for_value(self, value: str, *, workers: int = 2, at_once: bool = False, within: float = 40.0) -> None:
        """Ask until all workers have said this, of which there must be this many.

        Args:
            value: what they say in the end.
            workers: how many there must be.
            at_once: whether they must say so from their first answer on.
            within: seconds.
        """
        agreeing: set[int] = set()

        def agreed() -> bool:
            answers = self.burst()
            if self.workers - agreeing:
                answers += self._ask_others(agreeing)
            for pid, answer in answers:
                assert answer == value or not at_once, f"{pid} said {answer!r}, and not {value!r}"
                (agreeing.add if answer == value else agreeing.discard)(pid)
            return len(self.workers) == workers and self.workers <= agreeing

        until(agreed, within, every=0.01, what=f"{workers} workers to say {value}")

    def check_requests(self, changes: int) -> None:
        """Check what PostHog has seen: definitions were sent at the start and for each change; no more was asked."""
        requests = asks(self.posthog)
        full = [(served.status, served.arrived_at) for served in requests if served.status == 200]
        assert len(full) == self.posthog.full_fetches == 1 + changes, (full, len(requests))
        # A worker that ends during a fetch gives its turn to another one.
        assert self._grants.one_an_interval(requests, EVERY, more=2), (self._grants, len(requests))
        assert self.posthog.counts().flags_calls == 0

    def check_nothing_left(self, *, lapse: float = 0.0) -> None:
        """Check, after its end, that no process, lease or connection is left, and that no trouble was logged.

        Args:
            lapse: duration in seconds of a lease that was not given up.
        """
        # multiprocessing's helper ends when it notices that the processes which it served have.
        until(lambda: not self.program.left_behind(), 5.0, what="all processes to end")
        assert "Traceback" not in self.program.log
        until(lambda: not self.leader, lapse, what="the lease to end")
        until(lambda: not self.connections(), 10.0, what="the connections to end")


def _signal(pid: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def _is_tracker(pid: int) -> bool:
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
