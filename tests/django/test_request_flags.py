"""`request.flags` of Django: whose flags they are, the response's `Vary` header, and the cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject
from posthog.contexts import identify_context, new_context

from flagcache_posthog.django import HttpRequestFlags, client, flags_of
from flagcache_posthog.django.middleware import FlagsMiddleware
from flagcache_posthog.identity import cookie_name, from_session
from flagcache_posthog.testing import StandInControl, override_flags
from tests.django.conftest import Configure, for_user

NOBODY = SimpleNamespace(pk=None, is_authenticated=False)
COOKIE = {cookie_name("phc_test"): quote(json.dumps({"distinct_id": "visitor"}))}


def user(pk: int) -> Any:  # noqa: ANN401 - stands for a model
    """An authenticated user."""
    return SimpleNamespace(pk=pk, is_authenticated=True)


def request_of(who: object = None, **more: object) -> HttpRequest:
    """A request as a view gets it."""
    request = RequestFactory().get("/")
    vars(request).update({"user": NOBODY if who is None else who, **more})
    return request


def named(request: HttpRequest) -> str:
    """Return the id that a project gives each request."""
    return "of-the-project"


def nothing(request: HttpRequest) -> None:
    """Return nothing, as for an unknown visitor."""


def test_the_chain(configure: Configure) -> None:
    """The id comes from the project, the user, the SDK's context, PostHog's cookie or the session, in this order."""
    session = SimpleNamespace(session_key="key")
    request = request_of(user(7), session=session)
    request.COOKIES.update(COOKIE)
    configure(flagcache={"IDENTIFY": named})
    assert flags_of(request).distinct_id == "of-the-project"
    configure(flagcache={"IDENTIFY": f"{__name__}.nothing"})
    with new_context(fresh=True):
        identify_context("of-the-context")
        assert flags_of(request).distinct_id == "7"
        vars(request)["user"] = NOBODY
        assert flags_of(request).distinct_id == "of-the-context"
    with new_context(fresh=True):
        assert flags_of(request).distinct_id == "visitor"
        request.COOKIES.clear()
        assert flags_of(request).distinct_id == from_session("key")
        session.session_key = None
        assert flags_of(request).distinct_id is None
        del vars(request)["user"], vars(request)["session"]
        assert flags_of(request).distinct_id is None


@pytest.mark.usefixtures("project")
def test_each_user_has_its_own_values(flags: StandInControl) -> None:
    """Each user has their own values, also after a login in the request, or if only the view checks a token."""
    request = request_of()
    request.COOKIES.update(COOKIE)
    mine = flags_of(request)
    assert mine.is_enabled("only-visitor")
    assert not mine.is_enabled("only-7")
    vars(request)["user"] = user(7)
    assert mine.is_enabled("only-7")
    assert not mine.is_enabled("only-visitor")
    assert set(mine.snapshot("price").keys) == {"only-7", "only-visitor", "price"}
    assert (mine.get("price"), mine.payload("price"), mine.get("nowhere", default="x")) == ("b", {"amount": 9}, "x")
    assert flags.counts().flags_calls == 0
    assert flags.requests == 1


def test_properties_come_from_the_project(configure: Configure, posthog: StandInControl) -> None:
    """A function of the project returns the properties, once for each user of a request."""
    calls: list[int] = []

    def properties(request: HttpRequest) -> dict[str, str]:
        calls.append(1)
        return {"plan": "team"}

    configure(flagcache={"PERSON_PROPERTIES": properties})
    posthog.serve({"flags": [for_user("for-teams", "team", "plan")], "group_type_mapping": {}, "cohorts": {}})
    mine = flags_of(request_of(user(7)))
    assert mine.is_enabled("for-teams")
    assert mine.get("for-teams") is True
    assert calls == [1]


@pytest.mark.usefixtures("project", "flags")
def test_a_response_varies_if_flags_were_read() -> None:
    """A response varies only if flags were read: another visitor's cookie may mean another answer."""

    def ask(view: Callable[[HttpRequest], object], *, is_async: bool = False) -> str:
        def answer(request: HttpRequest) -> HttpResponse:
            view(request)
            return HttpResponse()

        async def answer_async(request: HttpRequest) -> HttpResponse:
            return answer(request)

        if is_async:
            middleware = cast("Any", FlagsMiddleware(answer_async))
            return str(asyncio.run(middleware(request_of())).headers.get("Vary"))
        return str(cast("Any", FlagsMiddleware(answer))(request_of()).headers.get("Vary"))

    for is_async in (False, True):
        assert ask(lambda request: cast("Any", request).flags.get("on"), is_async=is_async) == "Cookie"
        assert ask(flags_of, is_async=is_async) == "None"


@pytest.mark.usefixtures("project", "flags")
def test_rest_framework_requests_share_their_flags() -> None:
    """Django REST framework's requests wrap Django's request, and have its flags."""
    request = request_of(user(7))
    wrapping = cast("HttpRequest", SimpleNamespace(_request=request))
    shared = flags_of(wrapping)
    assert shared is flags_of(request)
    assert flags_of(wrapping).is_enabled("only-7")


# --- on an event loop ------------------------------------------------------------------------------------------------


def lazily(pk: int, looked_up: list[str]) -> HttpRequest:
    """A request whose user Django looks up when it is needed, which it cannot on an event loop."""

    def look_up() -> object:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            looked_up.append("sync")
            return user(pk)
        raise SynchronousOnlyOperation("You cannot call this from an async context")

    async def auser() -> object:
        looked_up.append("async")
        return user(pk)

    return request_of(SimpleLazyObject(look_up), auser=auser)


@pytest.mark.usefixtures("project", "flags")
def test_awaited_flags_know_the_user() -> None:
    """The user is looked up once, without blocking the loop."""
    looked_up: list[str] = []

    async def view() -> None:
        mine = await flags_of(lazily(7, looked_up))
        assert mine.is_enabled("only-7")
        assert not (await mine).is_enabled("only-visitor")

    asyncio.run(view())
    assert looked_up == ["async"]


@pytest.mark.usefixtures("project", "flags")
def test_flags_that_were_not_awaited_say_what_to_write() -> None:
    """Flags that were not awaited raise an error with the remedy, unless the user is known already."""
    looked_up: list[str] = []

    async def view(request: HttpRequest) -> bool:
        return flags_of(request).is_enabled("only-7")

    with pytest.raises(SynchronousOnlyOperation, match=r"flags = await request.flags"):
        asyncio.run(view(lazily(7, looked_up)))
    known = lazily(7, looked_up)
    assert known.user.pk == 7
    assert asyncio.run(view(known))
    assert looked_up == ["sync"]


@pytest.mark.usefixtures("project")
def test_a_cold_load_does_not_stop_the_event_loop(flags: StandInControl) -> None:
    """Other requests continue while PostHog is slow; only the first evaluation waits."""
    flags.hold()

    async def goes_on() -> None:
        await asyncio.to_thread(flags.wait_for_held, 1, timeout=20)
        flags.release()

    async def view() -> bool:
        mine, _ = await asyncio.gather(_awaited(request_of(user(7))), goes_on())
        return mine.is_enabled("only-7")

    assert asyncio.run(view())


async def _awaited(request: HttpRequest) -> HttpRequestFlags:
    return await flags_of(request)


@pytest.mark.usefixtures("project")
def test_an_override_needs_no_network(posthog: StandInControl) -> None:
    """Awaiting under an override loads nothing either; visitors without an id have the flags too."""

    async def view() -> bool:
        return (await flags_of(request_of(user(7)))).is_enabled("nowhere-else")

    with override_flags({"nowhere-else": True}):
        unknown = flags_of(request_of())
        assert unknown.distinct_id is None
        assert unknown.is_enabled("nowhere-else")
        assert flags_of(request_of(user(7))).is_enabled("nowhere-else")
        assert asyncio.run(view())
    assert posthog.requests == 0
    assert client().feature_flags is None
