"""Probes over HTTP for a process: is it alive, and is it ready?

Responses contain no key, address or definition. A request is limited in time and bytes, from its connection to the end
of its response. If all connections are taken, a new one replaces the oldest, so slow clients can't block a probe.
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

__all__ = ["Address", "HealthServer", "Probe", "address_of"]

Address: TypeAlias = tuple[str, int]

Probe: TypeAlias = Callable[[], tuple[bool, Mapping[str, object]]]
"""Returns whether the process is healthy, and facts for people."""

_REQUEST_TIMEOUT = 5.0
"""Seconds for a whole request: to send it, and to receive the response."""

_MAX_REQUEST_BYTES = 16 * 1024
"""The largest request; a probe sends a few hundred bytes."""

_MAX_CONNECTIONS = 16
"""Open connections; another one replaces the oldest."""

_CHECK_EVERY = 0.25
"""Seconds between two checks for connections that are too old."""


def address_of(text: str) -> Address:
    """Return the address in `PORT` or `HOST:PORT`; without a host it is 127.0.0.1.

    Raises:
        ConfigurationError: the text is neither.
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
    """A server that answers probes inside a `with` block.

    Args:
        address: where to listen.
        probes: by path.

    Raises:
        FlagcacheError: on entry, if it can't listen there or the system refuses a thread.
    """

    def __init__(self, address: Address, probes: Mapping[str, Probe]) -> None:
        self._address = address
        self._probes = probes
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        try:
            self._server = _Server(self._address, self._probes)
        except OSError as exc:
            host, port = self._address
            raise FlagcacheError(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc
        if reason := try_start(threading.Thread(target=self._server.serve, name="flagcache-health", daemon=True)):
            self._server.server_close()
            raise FlagcacheError(f"no thread to answer probes: {reason}")
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

    def __init__(self, address: Address, probes: Mapping[str, Probe]) -> None:
        self.probes = probes
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
        """Listen without looking up this host's name, which may hang."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self._address

    @override
    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        connection = cast("socket.socket", request)
        with self._lock:
            if len(self._open) >= _MAX_CONNECTIONS:
                self._end(next(iter(self._open)))
            self._open[connection] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system refuses a thread: the next probe may be answered
            self.shutdown_request(request)

    @override
    def service_actions(self) -> None:
        """End the connections that took too long, even if they still send."""
        before = time.monotonic() - (_Handler.timeout or _REQUEST_TIMEOUT)
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
        """Log nothing if a client has disconnected."""

    def _end(self, connection: socket.socket) -> None:
        """Wake the thread that uses a connection, which then closes it. Call it with the lock held."""
        del self._open[connection]
        with suppress(OSError):  # the client has closed it
            connection.shutdown(socket.SHUT_RDWR)


class _LimitedReader(io.RawIOBase):
    """Reads from a connection, up to the largest request."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._left = _MAX_REQUEST_BYTES

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
    timeout = _REQUEST_TIMEOUT

    @override
    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_LimitedReader(self.connection))

    def do_GET(self) -> None:
        """Respond with JSON: 200 if the process is healthy, otherwise 503."""
        probes = cast("_Server", self.server).probes
        answer = probes.get(self.path.partition("?")[0])
        if answer is None:
            return self._send(HTTPStatus.NOT_FOUND, {"paths": sorted(probes)})
        healthy, facts = answer()
        return self._send(HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE, {"ok": healthy, **facts})

    do_HEAD = do_GET  # noqa: N815 - the names that http.server looks for

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, because probes come every few seconds."""

    def _send(self, status: HTTPStatus, facts: Mapping[str, object]) -> None:
        body = json.dumps(facts).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
