"""The answers of a process to who watches over it."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import ExitStack

import pytest

from flagcache.cli.health import HealthServer, address_of
from flagcache.errors import ConfigurationError, FlagcacheError
from tests.servers import free_port, until


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
    """A port alone is of this machine; a host and an address in brackets may come before it; nothing else will do."""
    if address is not None:
        assert address_of(text) == address
        return
    with pytest.raises(ConfigurationError, match="--health must be"):
        address_of(text)


def test_probes_are_answered_beside_silent_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each path by its own answer, GET and HEAD; of silent connections too many are closed, and all end by time."""
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
