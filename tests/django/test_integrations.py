"""The SDK's own middleware, a readiness probe and Django's `call_command`, on the project's one client."""

from __future__ import annotations

import asyncio
import json
import threading
from io import StringIO
from typing import Any

import posthog as sdk
import pytest
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

from flagcache_posthog.django import client, flags_of, ready
from flagcache_posthog.testing import Hang, StandInControl
from tests.django.conftest import Configure
from tests.support.servers import until
from tests.support.snippets import snippet

SENT: list[dict[str, Any]] = []


def keep(event: dict[str, Any]) -> dict[str, Any]:
    """Records each event."""
    SENT.append(event)
    return event


def view(request: HttpRequest) -> HttpResponse:
    """A view that returns whose flags these are, and sends an event without a person."""
    flags = flags_of(request)
    sdk.capture("seen", flags=flags.snapshot("on"))
    return HttpResponse(f"{flags.distinct_id} {flags.is_enabled('only-7')}")


async def aview(request: HttpRequest) -> HttpResponse:
    """As `view`, on an event loop."""
    flags = await flags_of(request)
    assert flags is not None
    return view(request)


def fails(request: HttpRequest) -> HttpResponse:
    """A view that raises."""
    raise ZeroDivisionError("a fault of the project")


def readyz(request: HttpRequest) -> HttpResponse:
    """The probe of the docs."""
    page: dict[str, Any] = {}
    exec(snippet("docs/django.md", "probes.py"), page)
    answer: HttpResponse = page["readyz"](request)
    return answer


urlpatterns = [path("", view), path("async/", aview), path("fails/", fails), path("readyz/", readyz)]


@pytest.fixture
def site(configure: Configure, flags: StandInControl) -> StandInControl:
    """A site with the SDK's middleware."""
    SENT.clear()
    middleware = [
        "flagcache_posthog.django.middleware.FlagsMiddleware",
        "posthog.integrations.django.PosthogContextMiddleware",
    ]
    options = {"before_send": keep, "send": False}
    configure(flagcache={"CLIENT": options}, MIDDLEWARE=middleware, ROOT_URLCONF=__name__)
    return flags


def test_the_sdks_context_names_the_visitor(site: StandInControl) -> None:
    """Flags and events have the visitor that the SDK's middleware found, under WSGI and ASGI, on one client."""
    headers = {"X-PostHog-Distinct-Id": "7"}
    assert Client().get("/", headers=headers).content == b"7 True"

    async def ask() -> bytes:
        return (await AsyncClient().get("/async/", headers=headers)).content

    assert asyncio.run(ask()) == b"7 True"
    assert Client().get("/").content == b"None False"
    seen = [event for event in SENT if event["event"] == "seen"]
    assert [event["distinct_id"] for event in seen][:2] == ["7", "7"]
    assert seen[0]["properties"]["$feature/on"] is True
    assert site.counts().flags_calls == 0
    assert site.requests == 1


def test_the_sdks_middleware_captures_exceptions_by_the_projects_client(site: StandInControl) -> None:
    """The project's client captures exceptions, whether or not a flag was read before."""
    assert Client(raise_request_exception=False).get("/fails/").status_code == 500
    assert [event["event"] for event in SENT] == ["$exception"]
    assert client() is sdk.default_client


def test_a_readiness_probe_loads_flags(site: StandInControl) -> None:
    """It answers at once, also while PostHog is slow, and is ready once there are flags; only one load runs."""
    site.hold()
    assert [Client().get("/readyz/").status_code for _ in range(3)] == [503] * 3
    site.wait_for_held(1, timeout=20)
    loading = [thread for thread in threading.enumerate() if thread.name == "flagcache-load"]
    assert len(loading) == 1
    site.release()
    until(lambda: Client().get("/readyz/").status_code == 200, 20, every=0.02, what="readiness")
    site.fail(Hang())
    assert ready()
    assert site.counts().full_fetches == 1


def test_a_disabled_project_is_ready(configure: Configure) -> None:
    """A disabled project is ready, because there is nothing to wait for."""
    configure(FLAGCACHE={"DISABLED": True})
    assert ready()


@pytest.mark.usefixtures("site")
def test_call_command(capsys: pytest.CaptureFixture[str]) -> None:
    """A program can run the commands; a status other than 0 raises an exit."""
    assert flags_of(HttpRequest()).get("on") is None
    client().load_feature_flags()  # type: ignore[no-untyped-call]
    call_command("flagcache", "inspect", json=True, stdout=StringIO())
    assert json.loads(capsys.readouterr().out)["protection"] == "plain"
    with pytest.raises(SystemExit, match="2"):
        call_command("flagcache", "clear")
