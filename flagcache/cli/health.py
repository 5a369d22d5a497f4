"""Two questions over HTTP, for who watches over a process: does it live, and has it what it is there for?

Answers hold no key, address or definition. Connections are bounded in number and time, so that a client that says
nothing keeps nobody else from asking.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import TypeAlias, cast

from typing_extensions import Self, override

from flagcache.errors import ConfigurationError, FlagcacheError
from flagcache.runtime.threads import try_start

__all__ = ["Address", "Answer", "HealthServer", "address_of"]

Address: TypeAlias = tuple[str, int]

Answer: TypeAlias = Callable[[], tuple[bool, Mapping[str, object]]]
"""Says whether all is well, and what a person would like to know of it."""

_PATIENCE = 5.0
"""Seconds for a client to send its request, and to take the answer."""

_AT_ONCE = 16
"""Connections; further ones are closed at once."""


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
        if why := try_start(threading.Thread(target=self._server.serve_forever, name="flagcache-health", daemon=True)):
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

    def __init__(self, address: Address, answers: Mapping[str, Answer]) -> None:
        self.answers = answers
        self._address = address
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    @override
    def server_bind(self) -> None:
        """Listen, without the look-up of this host's own name, which may hang."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self._address

    @override
    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system gives no thread for it: the next probe may be answered
            self._free.release()
            self.shutdown_request(request)

    @override
    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no trouble of ours."""


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "flagcache", ""
    timeout = _PATIENCE

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
