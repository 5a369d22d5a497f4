"""The marker, the fixture, and overrides in the test suites of users: Django's live server, Celery, xdist."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.snippets import snippet
from tests.support.user_programs import posthog_environment


def _run(folder: Path, tests: str, *options: str) -> str:
    """Run a user's tests; what pytest prints."""
    (folder / "conftest.py").write_text(snippet("docs/testing.md", "conftest.py"))
    (folder / "test_users.py").write_text(textwrap.dedent(tests))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:valkey", "--strict-markers"]
    more = ["-W", "ignore::DeprecationWarning", "-W", "error::pytest.PytestUnhandledThreadExceptionWarning"]
    done = subprocess.run(
        [*command, *more, *options, str(folder)],
        env=posthog_environment("http://127.0.0.1:1"),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.stdout + done.stderr


def _outcome(printed: str) -> str:
    """Pytest's last line, without times."""
    return re.sub(r" in [\d.]+s.*", "", printed.strip().splitlines()[-1]).strip("= ")


MARKED = """
    import pytest
    from posthog import Posthog

    client = Posthog("phc_x", disabled=True)
    pytestmark = pytest.mark.flags({"price": "module", "everywhere": True})

    @pytest.fixture
    def seen():
        return client.get_all_flags("user")

    def test_module(seen):
        assert seen == client.get_all_flags("user") == {"price": "module", "everywhere": True}

    @pytest.mark.flags({"price": "class"})
    class TestMarked:
        def test_class(self, seen):
            assert seen == {"price": "class", "everywhere": True}

        @pytest.mark.flags({"price": "function", "new": False}, payloads={"price": [1]})
        def test_function(self, seen):
            assert seen == {"price": "function", "everywhere": True, "new": False}
            assert client.get_feature_flag_payload("price", "user") == [1]

    def test_fixture(override_flags):
        override_flags({"price": "first", "new": True})
        override_flags({"price": "second"}, payloads={"price": 7}, allow_unknown=["banner"])
        assert client.get_all_flags("user") == {"price": "second", "everywhere": True, "new": True}
        assert client.get_feature_flag_payload("price", "user") == 7
        assert client.get_feature_flag("banner", "user") is None
"""


@pytest.mark.parametrize("options", [[], ["-n", "2"]])
def test_marker_and_fixture(tmp_path: Path, options: list[str]) -> None:
    """The nearest marker counts; fixtures see it; xdist changes nothing."""
    assert _outcome(_run(tmp_path, MARKED, *options)) == "4 passed"


UNKNOWN = """
    import pytest
    from posthog import Posthog

    client = Posthog("phc_x", disabled=True)

    @pytest.mark.flags({"new-checkout": True})
    def test_raises():
        client.get_feature_flag("new-chekout", "user")

    @pytest.mark.flags({"new-checkout": True})
    def test_swallows():
        try:
            client.get_feature_flag("new-chekout", "user")
        except Exception:
            pass

    def test_fixture(override_flags):
        override_flags({"new-checkout": True})
        test_swallows()

    @pytest.mark.flags({"new-checkout": True}, allow_unknown=True)
    def test_allowed():
        assert client.get_feature_flag("banner", "user") is None

    @pytest.mark.flags({"new-checkout": 1})
    def test_mistake():
        pass
"""


def test_an_unknown_flag_fails_the_test_itself(tmp_path: Path) -> None:
    """The test fails once, by name, and not its teardown; a mistake in a marker is an error before the test."""
    printed = _run(tmp_path, UNKNOWN)
    assert _outcome(printed) == "3 failed, 1 passed, 1 error"
    assert len(re.findall(r"^E .*UnknownFlagError: flag 'new-chekout' was read", printed, re.MULTILINE)) == 3
    assert "flag 'new-checkout' is overridden by 1" in printed


DJANGO = """
    import threading
    import urllib.request

    import django
    import posthog
    from celery import Celery
    from django.conf import settings
    from django.http import JsonResponse
    from django.urls import path

    client = posthog.Posthog("phc_x", secret_key="phs_x", host="http://127.0.0.1:1", send=False)  # at import

    def view(request):
        flags = client.evaluate_flags("user", flag_keys=["price"])
        return JsonResponse({"price": flags.get_flag("price"), "thread": threading.get_ident()})

    async def async_view(request):
        return JsonResponse({"price": client.get_feature_flag("price", "user")})

    urlpatterns = [path("view", view), path("async", async_view)]
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], DATABASES={}, SECRET_KEY="x", STATIC_URL="/static/")
    django.setup()

    from django.test import LiveServerTestCase, SimpleTestCase
    from flagcache_posthog.testing import override_flags

    celery = Celery("app", task_always_eager=True)

    @celery.task
    def task():
        return client.get_feature_flag("price", "user")

    @override_flags({"price": "b"})
    class Live(LiveServerTestCase):
        databases = set()

        def test_live(self):
            with urllib.request.urlopen(self.live_server_url + "/view") as answer:
                body = answer.read().decode()
            assert '"price": "b"' in body and str(threading.get_ident()) not in body

    class Views(SimpleTestCase):
        @override_flags({"price": "c"})
        def test_views(self):
            assert self.client.get("/view").json()["price"] == "c"
            assert self.client.get("/async").json() == {"price": "c"}

        @override_flags({"price": "c"})
        async def test_async_client(self):
            assert (await self.async_client.get("/async")).json() == {"price": "c"}

    def test_eager_task(override_flags):
        override_flags({"price": "d"})
        assert task.delay().get() == "d"
"""


def test_django_and_celery(tmp_path: Path) -> None:
    """A live server's thread, the test clients, async views and eager tasks see the values."""
    pytest.importorskip("django")
    pytest.importorskip("celery")
    printed = _run(tmp_path, DJANGO)
    assert _outcome(printed) == "4 passed", printed


READY = """
    import os, sys, types

    import django
    import posthog
    from django.apps import AppConfig, apps
    from django.conf import settings

    shop = types.ModuleType("shop")
    sys.modules["shop"] = shop
    shop.__file__ = __file__

    class ShopConfig(AppConfig):
        name, path = "shop", os.path.dirname(__file__)

        def ready(self):
            posthog.api_key, posthog.host = "phc_x", "http://127.0.0.1:1"
            self.module_level = posthog.setup()
            self.client = posthog.Posthog("phc_x", secret_key="phs_x", host="http://127.0.0.1:1", send=False)

    shop.ShopConfig = ShopConfig
    settings.configure(INSTALLED_APPS=["shop.ShopConfig"], SECRET_KEY="x")
    django.setup()

    from django.test import SimpleTestCase
    from flagcache_posthog.testing import override_flags

    @override_flags({"price": "b"})
    class OfTheApplication(SimpleTestCase):
        def test_its_client(self):
            assert apps.get_app_config("shop").client.evaluate_flags("user").get_flag("price") == "b"

        def test_the_global_client(self):
            assert posthog.setup() is apps.get_app_config("shop").module_level
            assert posthog.evaluate_flags("user").get_flag("price") == "b"
"""


def test_clients_that_django_makes_in_ready(tmp_path: Path) -> None:
    """A client made in an application's `ready()`, and the global one that it sets up there, have the values."""
    pytest.importorskip("django")
    printed = _run(tmp_path, READY)
    assert _outcome(printed) == "2 passed", printed


COROUTINES = """
    import asyncio

    import pytest
    from posthog import Posthog
    from flagcache_posthog.testing import override_flags

    client = Posthog("phc_x", disabled=True)
    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    async def both():
        task = asyncio.create_task(asyncio.to_thread(client.get_feature_flag, "price", "user"))
        return [client.get_feature_flag("price", "user"), await task]

    @pytest.mark.flags({"price": "marker"})
    async def test_marker():
        assert await both() == ["marker"] * 2

    @override_flags({"price": "decorator"})
    async def test_decorator():
        assert await both() == ["decorator"] * 2

    async def test_fixture(override_flags):
        override_flags({"price": "fixture"})
        assert await both() == ["fixture"] * 2

    @override_flags({"price": "class"})
    class TestClass:
        async def test_method(self):
            assert await both() == ["class"] * 2

    @pytest.mark.flags({"price": "x"})
    async def test_unknown():
        try:
            client.get_feature_flag("prise", "user")
        except Exception:
            pass
"""


def test_tests_that_are_coroutines(tmp_path: Path) -> None:
    """Each form, with a pytest plugin that runs coroutines, and in tasks and threads that they start."""
    pytest.importorskip("anyio")
    printed = _run(tmp_path, COROUTINES)
    assert _outcome(printed) == "1 failed, 4 passed"
    assert "flag 'prise' was read" in printed


@pytest.mark.parametrize(
    ("page", "outcome"),
    [("test_shop.py", "2 passed"), ("test_marked.py", "2 passed"), ("test_with_a_posthog.py", "1 passed")],
)
def test_the_docs_examples(page: str, outcome: str, tmp_path: Path) -> None:
    """The examples in docs/testing.md pass."""
    (tmp_path / "shop.py").write_text(snippet("docs/testing.md", "shop.py"))
    printed = _run(tmp_path, snippet("docs/testing.md", page))
    assert _outcome(printed) == outcome, printed
