"""Views, URLs and templates that depend on flags, asked by Django's test clients."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.template import Context, Template, TemplateSyntaxError, engines
from django.test import AsyncClient, Client
from django.urls import include, path, reverse
from django.views import View

from flagcache_posthog.django import FlagRequiredMixin, flag_required, flagged_path
from flagcache_posthog.testing import override_flags
from tests.django.conftest import Configure
from tests.support.snippets import html_snippet

pytestmark = pytest.mark.usefixtures("flags", "site")

Answer = tuple[int, str]


def new(request: HttpRequest, **kwargs: object) -> HttpResponse:
    """A view that returns its arguments."""
    return HttpResponse(f"new {kwargs or ''}".strip())


def old(request: HttpRequest, **kwargs: object) -> HttpResponse:
    """The view for all others."""
    return HttpResponse(f"old {kwargs or ''}".strip())


async def anew(request: HttpRequest, **kwargs: object) -> HttpResponse:
    """As `new`, on an event loop."""
    return new(request, **kwargs)


async def aold(request: HttpRequest, **kwargs: object) -> HttpResponse:
    """As `old`, on an event loop."""
    return old(request, **kwargs)


class Off(FlagRequiredMixin, View):
    """A view of a flag that is off."""

    flag_required = "off"

    def get(self, request: HttpRequest) -> HttpResponse:
        """As `new`."""
        return new(request)


class On(Off):
    """A view of a flag that is on."""

    flag_required = "on"


class Variant(On):
    """A view of a variant."""

    flag_required, flag_value = "price", "b"


class Elsewhere(Off):
    """A view that responds to users for whom its flag is off."""

    def flag_is_off(self, request: HttpRequest) -> HttpResponseBase:
        """As `old`."""
        return old(request)


class Async(FlagRequiredMixin, View):
    """A view on an event loop."""

    flag_required = "on"

    async def get(self, request: HttpRequest) -> HttpResponse:
        """As `new`."""
        return new(request)


class AsyncOff(Async):
    """A view on an event loop, of a flag that is off."""

    flag_required = "off"


class Nameless(Off):
    """A view that names no flag."""

    flag_required = ""


def rest(request: HttpRequest, view: str) -> HttpResponseBase:
    """A view of Django REST framework, whose import needs settings; its flag is off."""
    rest_view: type[View] = importlib.import_module("rest_framework.views").APIView
    mixin = {"off": Off, "else": Elsewhere}[view]
    kind: Any = type("Rest", (mixin, rest_view), {"authentication_classes": (), "get": Off.get})
    answer: HttpResponseBase = kind.as_view()(request)
    return answer


def template(request: HttpRequest, engine: str) -> HttpResponse:
    """A page of the docs."""
    return render(request, "page", using=engine)


urlpatterns = [
    path("on/<int:n>/", flag_required("on")(new)),
    path("off/", flag_required("off")(new)),
    path("off/else/<int:n>/", flag_required("off", fallback=old)(new)),
    path("off/else-async/", flag_required("off", fallback=aold)(new)),
    path("not-off/", flag_required("off", value=False)(new)),
    path("unknown/not-off/", flag_required("unknown", value=False)(new)),
    path("b/", flag_required("price", value="b")(new)),
    path("c/", flag_required("price", value="c")(new)),
    path("async/on/<int:n>/", flag_required("on")(anew)),
    path("async/off/", flag_required("off")(anew)),
    path("async/off/else/<int:n>/", flag_required("off", fallback=old)(anew)),
    path("async/off/else-async/", flag_required("off", fallback=aold)(anew)),
    path("class/on/", On.as_view()),
    path("class/off/", Off.as_view()),
    path("class/b/", Variant.as_view()),
    path("class/else/", Elsewhere.as_view()),
    path("class/async/on/", Async.as_view()),
    path("class/async/off/", AsyncOff.as_view()),
    path("class/rest/<view>/", rest),
    path("class/nameless/", Nameless.as_view()),
    flagged_path("on", "path/on/<int:n>/", new, {"k": 1}, name="flagged"),
    flagged_path("off", "path/off/", Async.as_view()),
    flagged_path("off", "path/else/", Async.as_view(), fallback=old),
    flagged_path("price", "path/b/", anew, value="b"),
    path("template/<engine>/", template),
]

ANSWERS = {
    "/on/3/": (200, "new {'n': 3}"),
    "/off/": (404, ""),
    "/off/else/3/": (200, "old {'n': 3}"),
    "/off/else-async/": (200, "old"),
    "/not-off/": (200, "new"),
    "/unknown/not-off/": (200, "new"),
    "/b/": (200, "new"),
    "/c/": (404, ""),
    "/async/on/3/": (200, "new {'n': 3}"),
    "/async/off/": (404, ""),
    "/async/off/else/3/": (200, "old {'n': 3}"),
    "/async/off/else-async/": (200, "old"),
    "/class/on/": (200, "new"),
    "/class/off/": (404, ""),
    "/class/b/": (200, "new"),
    "/class/else/": (200, "old"),
    "/class/async/on/": (200, "new"),
    "/class/async/off/": (404, ""),
    "/class/rest/off/": (404, ""),
    "/class/rest/else/": (200, "old"),
    "/path/on/3/": (200, "new {'n': 3, 'k': 1}"),
    "/path/off/": (404, ""),
    "/path/else/": (200, "old"),
    "/path/b/": (200, "new"),
}


@pytest.fixture
def site(configure: Configure) -> None:
    """A site with the views of this module, for visitors who all have an id, and both kinds of templates."""
    backends = "django.template.backends"
    pages = {"page": html_snippet("docs/django.md", "checkout.html")}
    jinja_pages = {"page": html_snippet("docs/django.md", "checkout.jinja")}
    loaders = [("django.template.loaders.locmem.Loader", pages)]
    jinja = {"extensions": ["flagcache_posthog.django.jinja.FlagsExtension"], "environment": f"{__name__}.environment"}
    PAGES.update(jinja_pages)
    templates = [
        {"BACKEND": f"{backends}.django.DjangoTemplates", "NAME": "django", "OPTIONS": {"loaders": loaders}},
        {"BACKEND": f"{backends}.jinja2.Jinja2", "NAME": "jinja", "OPTIONS": jinja},
    ]
    site = {"ROOT_URLCONF": __name__, "TEMPLATES": templates, "REST_FRAMEWORK": {"UNAUTHENTICATED_USER": None}}
    configure(flagcache={"IDENTIFY": f"{__name__}.identify"}, **site)


PAGES: dict[str, str] = {}


def environment(**options: Any) -> Any:  # noqa: ANN401 - as Django has it
    """Jinja's, with the pages of the test."""
    import jinja2

    options["loader"] = jinja2.DictLoader(PAGES)
    return jinja2.Environment(**options)


def identify(request: HttpRequest) -> str:
    """The id of every visitor."""
    return "visitor"


def _of(response: Any) -> Answer:  # noqa: ANN401 - of either client
    return response.status_code, response.content.decode() if response.status_code == 200 else ""


@pytest.mark.parametrize("url", ANSWERS)
def test_a_view_is_there_if_its_flag_is_on(url: str) -> None:
    """If its flag is off, there is a 404 or another view with the same arguments, for each kind of view."""
    assert _of(Client().get(url)) == ANSWERS[url]

    async def ask() -> Answer:
        return _of(await AsyncClient().get(url))

    assert asyncio.run(ask()) == ANSWERS[url]


def test_a_flagged_path_has_its_name() -> None:
    """`flagged_path` takes a name as Django's `path`, and no `include()`, whose views it would not see."""
    assert reverse("flagged", kwargs={"n": 3}) == "/path/on/3/"
    with pytest.raises(TypeError, match="decorate the views of an include"):
        flagged_path("on", "shop/", include([]))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_a_class_that_names_no_flag_is_refused() -> None:
    """A class without a flag is refused, because it would serve no user, or every user."""
    with pytest.raises(ImproperlyConfigured, match="Nameless names no flag: set flag_required"):
        Client().get("/class/nameless/")


@pytest.mark.parametrize("engine", ["django", "jinja"])
def test_templates(engine: str) -> None:
    """The docs' templates show the flags, for each engine."""

    def words() -> list[str]:
        return Client().get(f"/template/{engine}/").content.decode().split()

    comment = ["<!--", "checkout." + {"django": "html", "jinja": "jinja"}[engine], "-->"]
    with override_flags({"new-checkout": True, "price": "b"}, payloads={"price": {"amount": 9}}):
        assert words() == [*comment, *["new", "checkout", "only", "for", "variant", "b", "b", "9"]]
    with override_flags({"new-checkout": False, "price": "c"}, payloads={"price": {"amount": 8}}):
        assert words() == [*comment, *["old", "checkout", "c", "8"]]


def test_a_template_needs_a_request() -> None:
    """Without a request the error says how to get one; a tag with wrong arguments is a syntax error."""
    page = Template("{% load flagcache %}{% flag 'on' %}x{% endflag %}")
    with pytest.raises(ImproperlyConfigured, match=r"render\(request, ...\)"):
        page.render(Context({}))
    jinja = engines["jinja"].from_string("{% flag 'on' %}x{% endflag %}")
    with pytest.raises(ImproperlyConfigured, match=r"render\(request, ...\)"):
        jinja.render({})
    for words in ("", "'a' 'b' 'c'"):
        with pytest.raises(TemplateSyntaxError, match="takes the key of a flag"):
            Template("{% load flagcache %}{% flag WORDS %}x{% endflag %}".replace("WORDS", words))
