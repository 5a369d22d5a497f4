"""Starlette: the example of docs/frameworks.md, and what the functions of its middleware may use."""

from __future__ import annotations

import json
from typing import cast
from urllib.parse import quote

import pytest
from posthog import Posthog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from flagcache_posthog.starlette import FlagsMiddleware
from flagcache_posthog.testing import RemoteStandIn, override_flags
from tests.frameworks.conftest import LoadExample
from tests.frameworks.http_client import browser

pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")


def test_the_example(load_example: LoadExample, posthog: RemoteStandIn) -> None:
    """The example has its user, else the SDK's context, else PostHog's cookie, for one request; overrides reach it."""
    pages = load_example("pages.py")
    cookie = quote(json.dumps({"distinct_id": "of-the-cookie"}))
    with browser(pages["app"]) as client:
        assert client.get("/").text == "old"
        for headers in (
            {"x-user": "user-7"},
            {"X-PostHog-Distinct-ID": "x"},
            {"cookie": f"ph_phc_test_posthog={cookie}"},
        ):
            assert client.get("/", headers=headers).text == "new"
        with override_flags({"new-checkout": False}):
            assert client.get("/", headers={"x-user": "user-7"}).text == "old"
    assert (posthog.requests, posthog.counts().flags_calls) == (1, 0)


def _user(connection: HTTPConnection) -> str | None:
    return cast("str | None", connection.session.get("user"))


async def _login(request: Request) -> Response:
    """Read as a visitor, log in, and read as the user; each has values of their own."""
    flags = request.state.flags
    before = [flags.get("price"), flags.is_enabled("new-checkout")]
    request.session["user"] = "user-7"
    return JSONResponse([before, flags.get("price"), flags.get("team")])


async def _socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json([websocket.state.flags.get("price"), websocket.state.flags.get("sticky-0")])
    await websocket.close()


def test_what_other_middleware_brings(posthog: RemoteStandIn) -> None:
    """The functions see later middleware; mounted applications and WebSockets have flags; no request is made."""
    sdk = Posthog("phc_test", secret_key="phs_test", host=posthog.url, send=False)
    flags = Middleware(
        FlagsMiddleware,
        client=sdk,
        user=_user,
        session=lambda connection: "key",
        person_properties=lambda connection: {"plan": "team"} if _user(connection) else None,
        groups=lambda connection: {"company": "acme"},
        remote="needed",
    )
    routes = [Mount("/inner", routes=[Route("/login", _login)]), WebSocketRoute("/socket", _socket)]
    app = Starlette(routes=routes, middleware=[flags, Middleware(SessionMiddleware, secret_key="secret")])
    with browser(app) as client:
        assert client.get("/inner/login").json() == [[False, True], "b", True]
        with client.websocket_connect("/socket") as socket:
            assert socket.receive_json() == ["b", None]
    assert posthog.counts().flags_calls == 0
    sdk.shutdown()
