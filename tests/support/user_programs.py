"""Whole programs under test: a server or a user's script, started as users do, and ended with all its processes.

    with Program(folder, [sys.executable, "-m", "gunicorn", "app:app"], env) as server:
        server.get(port)

Each runs in its own session, so that processes left at the end are found, named by `left_behind`, and ended.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from typing_extensions import Self

from tests.support.servers import until

__all__ = ["Program", "get", "posthog_environment"]

_END_SECONDS = 15.0


def posthog_environment(host: str, **more: str) -> dict[str, str]:
    """What a user's application reads from its environment, and a path on which it finds these packages.

    Args:
        host: of the stand-in.
        more: further variables.
    """
    root = Path(__file__).parents[2]
    path = [str(root), str(root / "providers")] if (root / "providers").is_dir() else []
    kept = {key: value for key, value in os.environ.items() if key not in ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY")}
    ours = {
        "POSTHOG_PROJECT_API_KEY": "phc_test",
        "POSTHOG_SECRET_KEY": "phs_test",
        "POSTHOG_HOST": host,
        "NO_PROXY": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    return {**kept, **ours, **more}


class Program:
    """One program while a `with` block lasts.

    Args:
        folder: where it runs, and where its output goes (`program.log`).
        command: what is run.
        environ: its whole environment.
    """

    def __init__(self, folder: Path, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._log = folder / "program.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # its own group: the session began with it
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    @property
    def pid(self) -> int:
        """Its first process, the master of a server."""
        return self._process.pid

    @property
    def log(self) -> str:
        """All that it has printed so far."""
        return self._log.read_text(errors="replace")

    def processes(self) -> list[int]:
        """The pids of its session, the first one included; those that are dead and not yet reaped are left out."""
        return [pid for pid in _pids() if _of_session(pid, self.pid)]

    def type(self, text: str) -> None:
        """Write to its standard input, which is a pipe that stays open."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to its first process."""
        self._process.send_signal(signum)

    def end(self, signum: signal.Signals = signal.SIGTERM, *, within: float = _END_SECONDS) -> int:
        """Tell it to end, and wait until it has; returns its exit status."""
        self._process.send_signal(signum)
        return self.wait(within)

    def wait(self, within: float = _END_SECONDS) -> int:
        """Wait for its end; returns its exit status."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self._process.args!r} has not ended after {within:g} s:\n{self.log}")

    def prints(self, text: str, *, within: float = 20.0) -> None:
        """Wait until its output contains this."""
        until(lambda: text in self.log or self._ended(text), within, every=0.05, what=f"{text!r} in its output")

    def get(self, port: int, path: str = "/", *, within: float = 20.0) -> str:
        """Ask it over HTTP, waiting until it answers at all; returns the body of a 200."""

        def body() -> str | None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return get(port, path)
            self._ended(f"answer on port {port}")
            return None

        return until(lambda: [answer] if (answer := body()) is not None else [], within, every=0.05, what="an answer")[
            0
        ]

    def left_behind(self) -> list[int]:
        """Return what is left of it after its end: no process should be."""
        return [pid for pid in self.processes() if pid != self.pid or self._process.poll() is None]

    def _ended(self, missing: str) -> bool:
        if self._process.poll() is not None:
            pytest.fail(f"it ended with {self._process.returncode} and without {missing!r}:\n{self.log}")
        return False


def get(port: int, path: str = "/", *, timeout: float = 10.0) -> str:
    """Send a request to this port of 127.0.0.1, over a new connection; fails unless the status is 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read().decode()
    finally:
        connection.close()
    assert answer.status == 200, f"{answer.status}: {body}"
    return body


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _of_session(pid: int, session: int) -> bool:
    try:
        state, _parent, _group, its_session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(its_session) == session and state not in "ZX"
