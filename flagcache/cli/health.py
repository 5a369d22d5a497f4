"""Two questions over HTTP, for who watches over a process: does it live, and has it what it is there for?

Answers hold no key, address or definition. A request is bounded in time and bytes, from its connection to the end of
its answer. If all connections are taken, a new one takes the place of the oldest, so slow clients don't keep a probe
from being answered.
"""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import TypeAlias, cast

from typing_extensions import Buffer, Self, override

from flagcache.errors import ConfigurationError, FlagcacheError
from flagcache.runtime.threads import try_start

__all__ = ["Address", "Answer", "HealthServer", "address_of"]

Address: TypeAlias = tuple[str, int]

Answer: TypeAlias = Callable[[], tuple[bool, Mapping[str, object]]]
"""Says whether all is well, and what a person would like to know of it."""

_PATIENCE = 5.0
"""Seconds for a whole request: to send it, and to take the answer."""

_LONGEST = 16 * 1024
"""Bytes of a request; a probe sends a few hundred."""

_AT_ONCE = 16
"""Connections; a further one takes the place of the oldest."""

_CHECK_EVERY = 0.25
"""Seconds between two checks for connections that are too old."""


def address_of(text: str) -> Address:
    """Return where `PORT` or `HOST:PORT` says to listen; without a host on this machine's 127.0.0.1 alone.

    Raises:
        ConfigurationError: it is neither.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or (":" in text and not host):
        port = ""
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigurationError(
            f"--health must be PORT, HOST:PORT or [ADDRESS]:PORT, with a port from 1 to 65535, not {text!r}"
        )
    return host or "127.0.0.1", int(port)


class HealthServer:
    """Answers while a `with` block lasts.

    Args:
        address: where to listen.
        answers: by path.

    Raises:
        FlagcacheError: on entry, if it cannot listen there or gets no thread for it.
    """

    def __init__(self, address: Address, answers: Mapping[str, Answer]) -> None:
        self._address = address
        self._answers = answers
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        try:
            self._server = _Server(self._address, self._answers)
        except OSError as exc:
            host, port = self._address
            raise FlagcacheError(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc
        if why := try_start(threading.Thread(target=self._server.serve, name="flagcache-health", daemon=True)):
            self._server.server_close()
            raise FlagcacheError(f"no thread to answer probes: {why}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # connections that wait to be accepted; with the default, 5, the next would wait a second

    def __init__(self, address: Address, answers: Mapping[str, Answer]) -> None:
        self.answers = answers
        self._address = address
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}
        """Connections and when each was accepted, oldest first."""
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def serve(self) -> None:
        """Answer until `shutdown`."""
        self.serve_forever(_CHECK_EVERY)

    @override
    def server_bind(self) -> None:
        """Listen, without the look-up of this host's own name, which may hang."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self._address

    @override
    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        connection = cast("socket.socket", request)
        with self._lock:
            if len(self._open) >= _AT_ONCE:
                self._end(next(iter(self._open)))
            self._open[connection] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system gives no thread for it: the next probe may be answered
            self.shutdown_request(request)

    @override
    def service_actions(self) -> None:
        """End the connections that took too long, however steadily they send."""
        before = time.monotonic() - (_Handler.timeout or _PATIENCE)
        with self._lock:
            for connection in [each for each, since in self._open.items() if since < before]:
                self._end(connection)

    @override
    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close a connection that has ended; another connection may get its descriptor from then on."""
        with self._lock:
            self._open.pop(cast("socket.socket", request), None)
        super().shutdown_request(request)

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no trouble of ours."""

    def _end(self, connection: socket.socket) -> None:
        """Wake the thread that reads from it or writes to it, which then closes it. With the lock held."""
        del self._open[connection]
        with suppress(OSError):  # the client was quicker
            connection.shutdown(socket.SHUT_RDWR)


class _Bounded(io.RawIOBase):
    """Reads from a connection, up to the largest request."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._left = _LONGEST

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        if not self._left:
            raise ConnectionAbortedError("the request is too long")
        number = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= number
        return number


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "flagcache", ""
    timeout = _PATIENCE

    @override
    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Bounded(self.connection))

    def do_GET(self) -> None:
        """Answer with JSON: 200 if all is well, 503 if not."""
        answers = cast("_Server", self.server).answers
        answer = answers.get(self.path.partition("?")[0])
        if answer is None:
            return self._send(HTTPStatus.NOT_FOUND, {"paths": sorted(answers)})
        well, facts = answer()
        return self._send(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, {"ok": well, **facts})

    do_HEAD = do_GET  # noqa: N815 - the names that http.server looks for

    @override
    def log_message(self, format: str, *args: object) -> None:
        """A probe every few seconds is nothing to be told."""

    def _send(self, status: HTTPStatus, facts: Mapping[str, object]) -> None:
        body = json.dumps(facts).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
