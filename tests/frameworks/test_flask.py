"""Flask: the example of docs/frameworks.md, whose flags a view reads, and for how long they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, session
from flask.testing import FlaskClient
from posthog import Posthog

from flagcache.errors import ConfigurationError
from flagcache_posthog.flask import flags, init_flags
from flagcache_posthog.testing import RemoteStandIn, override_flags
from tests.frameworks.conftest import LoadExample, serve_flags


@pytest.fixture
def client(posthog: RemoteStandIn) -> Iterator[Posthog]:
    """A client with its definitions."""
    made = Posthog("phc_test", secret_key="phs_test", host=posthog.url, send=False)
    yield made
    made.shutdown()


def _app(client: Posthog, **options: Any) -> Flask:  # noqa: ANN401 - those of `init_flags`
    app = Flask("shop")
    app.secret_key = "secret"
    init_flags(app, client, user=lambda: session.get("user_id"), **options)
    pages = Blueprint("pages", "shop")

    @pages.get("/")
    def price() -> list[object]:
        return [flags.get("price"), flags.get("price")]

    @pages.get("/login")
    def login() -> list[object]:
        before = [flags.is_enabled("new-checkout"), flags.get("price"), flags.get("team")]
        session["user_id"] = "user-7"
        return [before, [flags.is_enabled("new-checkout"), flags.get("price"), flags.get("team")]]

    @pages.get("/sticky")
    async def sticky() -> list[object]:
        return [flags.get("sticky-0")]

    @pages.get("/sticky-in-a-thread")
    def sticky_in_a_thread() -> list[object]:
        return [flags.get("sticky-0")]

    app.register_blueprint(pages)
    return app


def test_the_example(load_example: LoadExample, posthog: RemoteStandIn) -> None:
    """The example has its user, else the SDK's, in views and templates, for one request; overrides reach both."""
    shop = load_example("shop.py")
    browser: FlaskClient = shop["create_app"]().test_client()
    assert browser.get("/").text == "old checkout, price a"
    assert browser.get("/", headers={"X-PostHog-Distinct-ID": "user-7"}).text == "new checkout, price b"
    browser.post("/login/8")
    assert browser.get("/").text == "new checkout, price False"
    with override_flags({"new-checkout": False, "price": "x"}):
        assert browser.get("/").text == "old checkout, price x"
    assert (posthog.requests, posthog.counts().flags_calls) == (1, 0)


def test_a_login_within_a_request(client: Posthog) -> None:
    """The user is asked at each read, and the properties for each user."""
    app = _app(client, person_properties=lambda: {"plan": "team"} if "user_id" in session else None, groups=dict)
    assert app.test_client().get("/login").json == [[False, None, None], [True, "b", True]]


def test_each_request_has_its_own(client: Posthog, posthog: RemoteStandIn) -> None:
    """Also if one application context is around several requests, as in many test suites."""
    app = _app(client)
    with app.app_context(), app.test_client() as browser:
        browser.get("/login")
        assert browser.get("/").json == ["b", "b"]
        serve_flags(posthog, price="c")
        client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        assert browser.get("/").json == ["c", "c"]


def test_posthog_is_asked_beside_an_event_loop_alone(client: Posthog, posthog: RemoteStandIn) -> None:
    """With `remote="needed"` PostHog is asked in a view, and never in a view that is a coroutine."""
    browser = _app(client, remote="needed").test_client()
    browser.get("/login")
    posthog.reset_counts()
    assert browser.get("/sticky").json == [None]
    assert posthog.counts().flags_calls == 0
    assert browser.get("/sticky-in-a-thread").json == ["s"]
    assert posthog.counts().flags_calls == 1


def test_a_command_has_flags_too(client: Posthog) -> None:
    """Without a request the SDK's context or a given user says who it is, as it may for `RequestFlags`."""
    app = Flask("shop")
    init_flags(app, client, user="user-7")

    @app.cli.command("price")
    def price() -> None:
        print([flags.get("price"), flags.get("price")])  # noqa: T201 - what a command says

    assert app.test_cli_runner().invoke(args=["price"]).output == "['b', 'b']\n"


def test_an_application_without_flags_is_named() -> None:
    """The error says what to call."""
    app = Flask("shop")
    with app.app_context(), pytest.raises(ConfigurationError, match=r"'shop' has no flags: call init_flags\(app"):
        flags.get("price")
