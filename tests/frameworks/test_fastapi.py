"""FastAPI: the examples of docs/frameworks.md under uvicorn and in tests, whose flags they read, and their cost."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints
from urllib.parse import quote

import pytest
from fastapi import Depends, FastAPI, Header
from fastapi.requests import HTTPConnection
from posthog import Posthog
from posthog.contexts import identify_context

from flagcache_posthog.fastapi import flags_dependency
from flagcache_posthog.request_flags import RequestFlags
from flagcache_posthog.testing import Drop, Fault, Hang, Refuse, RemoteStandIn, override_flags
from tests.frameworks.conftest import PAGE, LoadExample, serve_flags
from tests.frameworks.http_client import browser
from tests.support.fleet_tasks import asks
from tests.support.grant_log import log_grants
from tests.support.servers import RedisServer, free_port, until
from tests.support.snippets import snippet
from tests.support.user_programs import Program, posthog_environment
from tests.support.web_applications import EVERY, with_times

pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")


def test_a_service_costs_one_request_an_interval(
    tmp_path: Path, posthog: RemoteStandIn, redis_server: RedisServer, namespace: str
) -> None:
    """Two uvicorn workers of the docs' example make one fetch and no `/flags` request, and a change reaches both."""
    text = with_times(snippet(PAGE, "service.py"), refresh_interval=EVERY).replace('"shop"', repr(namespace))
    (tmp_path / "service.py").write_text(text)
    port = free_port()
    command = ("uvicorn", "--host", "127.0.0.1", "--port", str(port), "--workers", "2", "service:app")
    environ = posthog_environment(posthog.url, REDIS_URL=redis_server.url, XDG_STATE_HOME=str(tmp_path))
    grants = log_grants(redis_server.url, namespace)
    with Program(tmp_path, [sys.executable, "-m", *command], environ) as service:
        until(lambda: service.log.count("Application startup complete") == 2, 30.0, what="two workers")
        assert {_ask(port) for _ in range(20)} == {("new", "b")}
        serve_flags(posthog, price="c")
        until(lambda: {_ask(port) for _ in range(20)} == {("new", "c")}, what="all workers to have the change")
        assert posthog.full_fetches == 2
        until(lambda: len(asks(posthog)) >= 6, what="six intervals")
        assert grants.one_an_interval(asks(posthog), EVERY)
        assert posthog.counts().flags_calls == 0
        assert service.end() == 0
    grants.close()
    assert "Traceback" not in service.log


@pytest.mark.parametrize("trouble", [Drop(), Refuse(500), Refuse(401), Hang()], ids=["down", "500", "401", "slow"])
def test_a_service_in_trouble(
    tmp_path: Path, posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, trouble: Fault
) -> None:
    """If PostHog fails, for the definitions and `/flags`, a service continues and a new one starts with flags."""
    text = with_times(snippet(PAGE, "service.py"), refresh_interval=EVERY, cold_start_wait=2.0, fetch_timeout=1.0)
    (tmp_path / "service.py").write_text(text.replace('"shop"', repr(namespace)))
    grants = log_grants(redis_server.url, namespace)
    with ExitStack() as services:

        def start(name: str) -> int:
            port, folder = free_port(), tmp_path / name
            folder.mkdir()
            environ = posthog_environment(posthog.url, REDIS_URL=redis_server.url, XDG_STATE_HOME=str(folder))
            command = ("uvicorn", "--host", "127.0.0.1", "--port", str(port), "--app-dir", str(tmp_path), "service:app")
            service = services.enter_context(Program(folder, [sys.executable, "-m", *command], environ))
            service.prints("Uvicorn running on")
            return port

        first = start("first")
        assert _ask(first) == ("new", "b")
        posthog.fail(trouble)
        posthog.fail(trouble, path="flags")
        until(lambda: len(asks(posthog)) >= 3, what="requests that fail")
        second = start("second")
        for port in (first, second):
            assert {_ask(port) for _ in range(10)} == {("new", "b")}
        assert grants.one_an_interval(asks(posthog), EVERY, more=2)
        assert posthog.counts().flags_calls == 0
        posthog.recover()
        serve_flags(posthog, price="c")
        for port in (first, second):
            until(lambda port=port: _ask(port) == ("new", "c"), 20.0, what="the change")  # type: ignore[misc]
    grants.close()


def _ask(port: int) -> tuple[str, str]:
    """The service's answer to user-7, over a new connection."""
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"X-PostHog-Distinct-ID": "user-7"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        said: dict[str, str] = json.loads(answer.read())
    return said["checkout"], said["price"]


def test_who_asks(load_example: LoadExample, posthog: RemoteStandIn) -> None:
    """The user is the example's, else that of PostHog's header through the SDK's integration, else the cookie's."""
    service = load_example("service.py")
    app, sent = service["app"], list[dict[str, Any]]()

    def keep(event: dict[str, Any]) -> dict[str, Any]:
        sent.append(event)
        return event

    service["posthog"].before_send = keep
    cookie = quote(json.dumps({"distinct_id": "of-the-cookie"}))
    with browser(app) as client:
        assert client.get("/").json() == {"checkout": "old", "price": "a"}
        client.cookies["ph_phc_test_posthog"] = cookie
        assert client.get("/").json() == {"checkout": "new", "price": False}
        assert client.get("/", headers={"X-PostHog-Distinct-ID": "user-7"}).json() == {"checkout": "new", "price": "b"}
        app.dependency_overrides[service["current_user"]] = lambda: "an-overridden-one"
        assert client.get("/", headers={"X-PostHog-Distinct-ID": "user-7"}).json() == {
            "checkout": "new",
            "price": False,
        }
    assert [event["distinct_id"] for event in sent[::2]] == ["of-the-cookie", "user-7", "an-overridden-one"]
    assert sent[0]["properties"]["$request_path"] == "/"
    assert (posthog.requests, posthog.counts().flags_calls) == (1, 0)


def test_fastapi_can_read_its_annotations(posthog: RemoteStandIn) -> None:
    """Each name in them is known in its module: FastAPI looks names up there."""
    client = Posthog("phc_test", host=posthog.url, send=False)
    assert get_type_hints(flags_dependency(client))["connection"] is HTTPConnection
    client.shutdown()


def _properties(x_plan: Annotated[str, Header()] = "") -> dict[str, object]:
    return {"plan": x_plan}


def test_one_for_all_that_depend_on_it(posthog: RemoteStandIn) -> None:
    """All routes and dependencies of a request share one object; properties, groups and session are dependencies."""
    sdk = Posthog("phc_test", secret_key="phs_test", host=posthog.url, send=False)
    seen: list[RequestFlags] = []
    request_flags = flags_dependency(
        sdk, session=lambda: "key", person_properties=_properties, groups=lambda: {"company": "acme"}
    )
    given = Depends(request_flags)

    def check(flags: Any = given) -> None:  # noqa: ANN401 - as FastAPI takes it
        seen.append(flags)

    app = FastAPI(dependencies=[Depends(check)])

    @app.get("/")
    async def home(flags: Any = given) -> object:  # noqa: ANN401 - as FastAPI takes it
        seen.append(flags)
        return flags.get("team")

    with browser(app) as client:
        assert client.get("/", headers={"x-plan": "team"}).json() is True
        assert client.get("/", headers={"x-plan": "free"}).json() is False
    assert [seen[0] is seen[1], seen[1] is seen[2], seen[2] is seen[3]] == [True, False, True]
    sdk.shutdown()


def test_posthog_is_asked_beside_the_event_loop_alone(posthog: RemoteStandIn) -> None:
    """With `remote="needed"` PostHog is asked in plain functions, which run on threads, and never in coroutines."""
    sdk = Posthog("phc_test", secret_key="phs_test", host=posthog.url, send=False)
    given = Depends(flags_dependency(sdk, user=lambda: "user-7", remote="needed"))
    app = FastAPI()

    @app.get("/coroutine")
    async def coroutine(flags: Any = given) -> object:  # noqa: ANN401 - as FastAPI takes it
        return flags.get("sticky-0", "default")

    @app.get("/function")
    def function(flags: Any = given) -> object:  # noqa: ANN401 - as FastAPI takes it
        return flags.get("sticky-0", "default")

    with browser(app) as client:
        assert client.get("/coroutine").json() == "default"
        assert posthog.counts().flags_calls == 0
        assert client.get("/function").json() == "s"
        assert posthog.counts().flags_calls == 1
    sdk.shutdown()


NO_NETWORK = """
import sys

def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind"):
        raise RuntimeError(f"{event} {args}")

sys.addaudithook(refuse)
"""


def test_the_docs_tests_need_no_network(tmp_path: Path) -> None:
    """The example's tests use three overrides and `dependency_overrides`, and connect or bind no socket."""
    (tmp_path / "conftest.py").write_text(NO_NETWORK)
    for name in ("service.py", "test_service.py"):
        (tmp_path / name).write_text(snippet(PAGE, name))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey", str(tmp_path)]
    environ = posthog_environment("https://posthog.invalid", REDIS_URL="redis://redis.invalid:6379/0")
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=100)
    assert "3 passed" in done.stdout, done.stdout


def test_an_identity_that_a_route_gives(load_example: LoadExample) -> None:
    """A route that identifies the SDK's context has that user's flags from then on; overrides hold in any case."""
    service = load_example("service.py")
    app, given = cast("FastAPI", service["app"]), Depends(flags_dependency(service["posthog"]))

    @app.post("/login")
    async def login(flags: Any = given) -> list[object]:  # noqa: ANN401 - as FastAPI takes it
        before = flags.get("price")
        identify_context("user-7")
        return [before, flags.get("price")]

    with browser(app) as client:
        assert client.post("/login").json() == [None, "b"]
        with override_flags({"price": "x"}):
            assert client.post("/login").json() == ["x", "x"]
