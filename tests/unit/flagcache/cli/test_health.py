"""The health endpoints of a process."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import ExitStack, suppress

import pytest

from flagcache.cli.health import HealthServer, address_of
from flagcache.errors import ConfigurationError, FlagcacheError
from tests.support.servers import free_port, until


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:8080", ("0.0.0.0", 8080)),
        ("[::]:80", ("::", 80)),
        *[(wrong, None) for wrong in ("", "0", "65536", "-1", ":80", "::80", "host:", "host", "8_0", "[::1]")],
    ],
)
def test_where_to_listen_is_told_by_port(text: str, address: tuple[str, int] | None) -> None:
    """A port alone means this machine; a host, or an address in brackets, may come before it; all else is refused."""
    if address is not None:
        assert address_of(text) == address
        return
    with pytest.raises(ConfigurationError, match="--health must be"):
        address_of(text)


def test_probes_are_answered_beside_silent_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each path has its own answer to GET and HEAD; excess silent connections are closed, and all end in time."""
    monkeypatch.setattr("flagcache.cli.health._Handler.timeout", 1.0)
    monkeypatch.delattr(socket, "getfqdn")  # it must not look up this host's name, which may hang
    well = {"a": True, "b": False}
    answers = {f"/{name}": lambda name=name: (well[name], {"name": name}) for name in well}
    port = free_port()
    with HealthServer(("127.0.0.1", port), answers), ExitStack() as silent:
        assert ask(port, "/a") == (200, {"ok": True, "name": "a"})
        assert ask(port, "/b?x=1") == (503, {"ok": False, "name": "b"})
        assert ask(port, "/a", "HEAD") == (200, None)
        assert ask(port, "/") == (404, {"paths": ["/a", "/b"]})
        assert ask(port, "/a", "POST")[0] == 501
        connections = [silent.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(10)]
        assert ask(port, "/a")[0] == 200
        more = [silent.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(10)]
        more[-1].settimeout(4)
        assert more[-1].recv(1) == b""
        with (
            pytest.raises(FlagcacheError, match=r"cannot listen on 127\.0\.0\.1"),
            HealthServer(("127.0.0.1", port), {}),
        ):
            pass
        connections[0].settimeout(10)
        assert connections[0].recv(1) == b""
        until(lambda: ask(port, "/a")[0] == 200, 10.0, every=0.1)
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/a")


@pytest.mark.parametrize("number", [16, 200])
def test_slow_clients_take_no_probe_out(number: int) -> None:
    """However many connections say nothing, or send a byte now and then, each probe is answered within a second."""
    port = free_port()
    with HealthServer(("127.0.0.1", port), {"/a": lambda: (True, {})}), ExitStack() as slow:
        connections = [slow.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(number)]
        for connection in connections[::2]:
            with suppress(OSError):  # it was dropped for a newer one
                connection.sendall(b"GET /a HTTP/1.1\r\nX: ")
        for _ in range(20):
            began = time.monotonic()
            assert ask(port, "/a")[0] == 200
            assert time.monotonic() - began < 1.0


def test_the_oldest_connection_goes_first() -> None:
    """The seventeenth connection ends the first one and no other."""
    port = free_port()
    with HealthServer(("127.0.0.1", port), {"/a": lambda: (True, {})}), ExitStack() as silent:
        connections = [silent.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(17)]
        assert ended(connections[0], within=4.0)
        assert not any(ended(each, within=0.01) for each in connections[1:])


def test_a_request_that_trickles_in_ends_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is on the whole request: a byte now and then does not renew it."""
    monkeypatch.setattr("flagcache.cli.health._Handler.timeout", 0.5)
    port = free_port()
    with HealthServer(("127.0.0.1", port), {}), socket.create_connection(("127.0.0.1", port)) as trickles:
        began = time.monotonic()
        while not ended(trickles, within=0.1):
            assert time.monotonic() - began < 5.0, "it was let go on"
            with suppress(OSError):  # it ends at this moment
                trickles.sendall(b"G")


@pytest.mark.parametrize(
    "head", [b"GET /" + b"a" * 20_000, b"GET /a HTTP/1.1\r\n" + (b"X: " + b"y" * 400 + b"\r\n") * 50]
)
def test_a_request_that_is_too_long_gets_no_answer(head: bytes) -> None:
    """A request of more than 16 KiB, in its first line or in its headers, ends its connection."""
    port = free_port()
    with (
        HealthServer(("127.0.0.1", port), {"/a": lambda: (True, {})}),
        socket.create_connection(("127.0.0.1", port)) as long,
    ):
        with suppress(OSError):  # it ends before all is sent
            long.sendall(head)
        assert ended(long, within=3.0)
        assert ask(port, "/a")[0] == 200


def ended(connection: socket.socket, *, within: float) -> bool:
    """Return whether the server ends a connection, without an answer, in this many seconds."""
    connection.settimeout(within)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def ask(port: int, path: str, method: str = "GET") -> tuple[int, object]:
    """Ask over a connection of its own; returns status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body.startswith(b"{") else None
    except http.client.RemoteDisconnected:
        return 0, None
    finally:
        connection.close()
