"""The gunicorn fleet: a real master and real workers, and the pipe for their reports.

It runs in its own session, so a Ctrl-C at the terminal reaches only the demo, which then ends the fleet. If the demo is
killed, the pipe breaks and the workers end their master.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from typing_extensions import Self

from flagcache.cli.demo.messages import Report, WorkerConfig
from flagcache.cli.demo.options import DemoOptions, Project

__all__ = ["Fleet"]

_STOP_PATIENCE = 5.0  # seconds after which a fleet that does not end is killed
_GRACE = 2  # seconds that gunicorn gives its workers to end
_LOG_TAIL = 12  # lines


class Fleet:
    """Gunicorn workers, which run during the `with` block.

    Args:
        options: number of workers, and whether they are forked from a loaded application.
        project: where their clients fetch.
        config: their configuration; the pipe is added here.
        folder: for their log.
    """

    def __init__(self, options: DemoOptions, project: Project, config: WorkerConfig, folder: Path) -> None:
        self._log = folder / "gunicorn.log"
        self._unread = b""
        self._reports, theirs = os.pipe()
        with socket.create_server(("127.0.0.1", 0)) as listener, self._log.open("wb") as log:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            self._master = subprocess.Popen(  # noqa: S603 - gunicorn, with this interpreter
                _command(options, listener.fileno()),
                cwd=folder,
                env=_environment(project, replace(config, reports=theirs)),
                pass_fds=(theirs, listener.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def ended(self) -> bool:
        """Whether the master has ended by itself, as it does if its workers can't start."""
        return self._master.poll() is not None

    def reports(self, timeout: float) -> list[Report]:
        """Wait up to `timeout` seconds for reports, and return those that arrived."""
        if not select.select([self._reports], [], [], timeout)[0]:
            return []
        self._unread += os.read(self._reports, 1 << 16)
        *lines, self._unread = self._unread.split(b"\n")
        return [Report.from_line(line) for line in lines]

    def kill(self, worker: int) -> None:
        """Kill a worker, as with `kill -9`.

        Args:
            worker: process id, from a recent report.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)

    def log_tail(self) -> str:
        """Return the last lines in the log of master and workers."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_TAIL:])

    def stop(self) -> None:
        """End master and workers, by force if they don't end."""
        self._master.terminate()
        try:
            self._master.wait(_STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._master.pid, signal.SIGKILL)  # its own group, because it leads the session
            self._master.wait()
        os.close(self._reports)


def _command(options: DemoOptions, listener: int) -> list[str]:
    command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--log-level", "warning"]
    command += ["--config", "python:flagcache.cli.demo.gunicorn_conf", "--graceful-timeout", str(_GRACE)]
    command += ["--workers", str(options.workers), "--bind", f"fd://{listener}"]
    return [*command, *(["--preload"] if options.preload else []), "flagcache.cli.demo.app:application"]


def _environment(project: Project, config: WorkerConfig) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY")}
    for name in ("NO_PROXY", "no_proxy"):  # the stand-in is on this machine, not behind a proxy
        kept[name] = ",".join(filter(None, [kept.get(name), "127.0.0.1"]))
    path = os.pathsep.join(filter(None, sys.path))  # also if flagcache is not installed
    return {**kept, "PYTHONPATH": path, **project.environment(), **config.environment()}
