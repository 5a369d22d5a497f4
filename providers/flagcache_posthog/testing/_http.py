"""The stand-in's HTTP server: PostHog's endpoints, and `POST /_standin/<command>` for control from other processes."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import ssl
import sys
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from ._backend import Backend
from ._commands import perform
from ._messages import Reply, Request
from .faults import refusal_body

CONTROL_PREFIX = "/_standin/"
_CAPTURE = ("/batch", "/capture", "/e", "/i/")
_DRIP_PARTS = 20
_MAX_BODY = 64 * 1024 * 1024  # bytes, also when decompressed: twenty thousand flags have about twenty million
_OWN_NAMES = ("127.0.0.1", "localhost")

logger = logging.getLogger(__name__)


class StandInServer(ThreadingHTTPServer):
    """A loopback server with one thread per connection."""

    daemon_threads = True
    request_queue_size = 1024  # a cold start of a fleet is one burst

    def __init__(self, backend: Backend, port: int, context: ssl.SSLContext | None) -> None:
        self.backend = backend
        self._context = context
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection; its own thread does the TLS handshake."""
        connection, address = super().get_request()
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._connections.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:  # noqa: ANN401 - the standard library's signature
        """Forget a connection that has ended."""
        self._connections.discard(request)
        super().close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log without a traceback that a connection ended early, because clients may disconnect."""
        logger.debug("a connection from %s ended early: %r", client_address, sys.exc_info()[1])

    def close(self) -> None:
        """End the listening socket and all connections, for children that inherited them too."""
        _shut_down(self.socket)
        self.shutdown()
        for connection in list(self._connections):
            _shut_down(connection)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "PostHogStandIn"
    disable_nagle_algorithm = True  # otherwise each response on a kept-alive connection takes 44 ms instead of 0.6

    @property
    def _backend(self) -> Backend:
        return cast("StandInServer", self.server).backend

    def do_GET(self) -> None:
        """Serve definitions."""
        url = urlsplit(self.path)
        if url.path.rstrip("/") != "/flags/definitions":
            self._send(Reply(0, 404, refusal_body(404)))
            return
        scheme, _, secret = self.headers.get("Authorization", "").partition(" ")
        self._answer(
            Request(
                "definitions",
                secret_key=secret if scheme == "Bearer" and secret else None,
                token=parse_qs(url.query).get("token", [None])[0],
                if_none_match=self.headers.get("If-None-Match"),
                user_agent=self.headers.get("User-Agent"),
            )
        )

    def do_POST(self) -> None:
        """Evaluate flags, accept events, or run a test's command."""
        path = urlsplit(self.path).path
        if (refused := self._refusal(path)) is not None:
            self.close_connection = True  # the body is not read
            self._send(refused)
            return
        body = self._read_body()
        agent = self.headers.get("User-Agent")
        if path.startswith(CONTROL_PREFIX):
            self._control(path.removeprefix(CONTROL_PREFIX), body)
        elif path.rstrip("/") == "/flags":
            self._answer(Request("flags", token=_token(body), user_agent=agent))
        elif path.startswith(_CAPTURE):
            self._answer(Request("capture", token=_token(body), user_agent=agent, events=_event_names(body)))
        else:
            self._send(Reply(0, 404, refusal_body(404)))

    def _answer(self, request: Request) -> None:
        reply = self._backend.receive(request)
        if not self._backend.wait_before(reply):
            self.close_connection = True
            _shut_down(self.connection)
            return
        self._backend.mark_answered(reply)  # first, so that the log has the response when a client has it
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        assert reply.status is not None
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status != 304:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if reply.drip:
            self._drip(reply)
        else:
            self.wfile.write(reply.body)

    def _drip(self, reply: Reply) -> None:
        size = max(1, -(-len(reply.body) // _DRIP_PARTS))
        for start in range(0, len(reply.body), size):
            self._backend.drip(reply.drip / _DRIP_PARTS)
            self.wfile.write(reply.body[start : start + size])

    def _control(self, command: str, body: dict[str, object]) -> None:
        try:
            result = perform(self._backend, command, body)
        except (LookupError, TypeError, ValueError) as exc:
            self._send(Reply(0, 400, json.dumps({"error": f"{command}: {exc!r}"}).encode()))
        else:
            self._send(Reply(0, 200, json.dumps({"result": result}).encode()))

    def _refusal(self, path: str) -> Reply | None:
        """Return the refusal of a request, made before its body is read; None if the request is valid.

        A page in a browser on this machine may send requests here, with a foreign origin, or with a foreign host name
        that resolves to this address. Neither may control the stand-in.
        """
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            return _refused(400, "Content-Length must be a number")
        if int(length) > _MAX_BODY:
            return _refused(413, f"a body may have {_MAX_BODY} bytes")
        if path.startswith(CONTROL_PREFIX) and not self._is_own():
            return _refused(403, "only this machine's own programs may control the stand-in")
        return None

    def _is_own(self) -> bool:
        """Whether Host and Origin, if there is one, name this server."""
        port = cast("StandInServer", self.server).server_port
        own = {f"{name}:{port}" for name in _OWN_NAMES}
        origin = self.headers.get("Origin")
        return self.headers.get("Host", "").lower() in own and (
            origin is None or (urlsplit(origin).scheme in ("http", "https") and urlsplit(origin).netloc.lower() in own)
        )

    def _read_body(self) -> dict[str, object]:
        """Read the body; one that isn't a JSON object counts as empty."""
        raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            if self.headers.get("Content-Encoding") == "gzip":
                raw = _decompressed(raw)
            body = json.loads(raw)
        except (OSError, EOFError, RecursionError, ValueError, zlib.error):
            return {}
        return cast("dict[str, object]", body) if isinstance(body, dict) else {}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Print nothing, because the log that tests read has each request."""


def _refused(status: int, reason: str) -> Reply:
    return Reply(0, status, json.dumps({"error": reason}).encode())


def _decompressed(raw: bytes) -> bytes:
    """Decompress gzip, up to the largest size of a body.

    Raises:
        ValueError: the body is larger, or cut off.
        zlib.error: the body is not gzip.
    """
    decompressor = zlib.decompressobj(wbits=31)
    body = decompressor.decompress(raw, _MAX_BODY)
    if not decompressor.eof:
        raise ValueError("the body is too large, or cut off")
    return body


def _token(body: dict[str, object]) -> str | None:
    token = body.get("api_key", body.get("token"))
    return token if isinstance(token, str) else None


def _event_names(body: dict[str, object]) -> tuple[str, ...]:
    batch = body.get("batch", [body])
    events = cast("list[object]", batch) if isinstance(batch, list) else []
    names = (cast("dict[str, object]", event).get("event") for event in events if isinstance(event, dict))
    return tuple(name for name in names if isinstance(name, str))


def _shut_down(connection: socket.socket) -> None:
    """End a connection for every process that has it open, which `close` doesn't do.

    We call the plain socket's method, because a TLS socket's would remove state that the reading thread uses.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
