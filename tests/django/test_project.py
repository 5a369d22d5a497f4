"""A project made from docs/django.md alone: what it costs, what it needs, and its commands."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flagcache_posthog.testing import RemoteStandIn, make_flag
from tests.django.conftest import for_user
from tests.support.django_project import DjangoProject
from tests.support.servers import RedisServer
from tests.support.snippets import snippet

NOWHERE = "redis://127.0.0.1:1/0"

Make = Callable[..., DjangoProject]

QUERIES = '''
from contextlib import contextmanager
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.test import TestCase
from rest_framework.authtoken.models import Token


class Queries(TestCase):
    """Each view and its twin, which only looks at the user, cost the same queries; flags are those of the user."""

    @classmethod
    def setUpTestData(cls):
        cls.users = [User.objects.create_user(f"user{n}", pk=n) for n in (6, 7)]

    @contextmanager
    def counting(self):
        queries = []

        def execute(execute, sql, *arguments):
            queries.append(sql)
            return execute(sql, *arguments)

        with connection.execute_wrapper(execute):
            yield queries

    def cost(self, url, **headers):
        with self.counting() as queries:
            answer = self.client.get(url, headers=headers).json()
        return len(queries), answer

    async def acost(self, url):
        counting = self.counting()
        queries = await sync_to_async(counting.__enter__)()  # on the thread that has the connection
        answer = (await self.async_client.get(url)).json()
        await sync_to_async(counting.__exit__)(None, None, None)
        return len(queries), answer

    def each(self, url, **headers):
        first, flags = self.cost(f"/{url}/flags/", **headers)
        twin, user = self.cost(f"/{url}/user/", **headers)
        assert first <= twin, (first, twin)
        return first, flags["only-7"], user["user"]

    def test_session(self):
        assert self.each("sync") == (0, None, None)
        for user in self.users:
            self.client.force_login(user)
            assert self.each("sync") == (2, user.pk == 7, user.pk)

    def test_token(self):
        for user in self.users:
            token = Token.objects.create(user=user)
            assert self.each("token", authorization=f"Token {token.key}") == (1, user.pk == 7, user.pk)

    def test_login_within_a_request(self):
        assert self.client.get("/login/7/").json() == [None, True]

    def test_async(self):
        for user in self.users:
            self.client.force_login(user)
            assert self.each("async") == (2, user.pk == 7, user.pk)

    async def test_async_under_asgi(self):
        for user in self.users:
            await self.async_client.aforce_login(user)
            for url in ("async", "sync"):
                first, flags = await self.acost(f"/{url}/flags/")
                twin, who = await self.acost(f"/{url}/user/")
                seen = first, twin, flags["only-7"], who["user"]
                assert seen == (2, 2, user.pk == 7, user.pk), (url, user.pk, seen)

    def test_a_view_that_reads_no_flag(self):
        self.client.force_login(self.users[0])
        assert self.cost("/none/") == (0, {})
'''

TWINS = """
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.http import JsonResponse
from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.response import Response


def values(flags):
    assert flags.get("sticky") is None  # only PostHog could decide it
    return {"only-7": flags.get("only-7")}


def sync_flags(request):
    return JsonResponse(values(request.flags))


def sync_user(request):
    return JsonResponse({"user": request.user.pk})


async def async_flags(request):
    return JsonResponse(values(await request.flags))


async def async_user(request):
    return JsonResponse({"user": (await request.auser()).pk})


@api_view(["GET"])
def token_flags(request):
    return Response(values(request.flags))


@api_view(["GET"])
def token_user(request):
    return Response({"user": request.user.pk})


def log_in(request, pk):
    before = request.flags.get("only-7")
    login(request, User.objects.get(pk=pk), backend="django.contrib.auth.backends.ModelBackend")
    return JsonResponse([before, request.flags.get("only-7")], safe=False)


twins = [(name, view) for name, view in globals().items() if name.count("_") == 1]
urlpatterns = [path(f"{name.replace('_', '/')}/", view) for name, view in twins]
urlpatterns += [path("login/<int:pk>/", log_in), path("none/", lambda request: JsonResponse({}))]
"""

API_VIEWS = """
from rest_framework.response import Response
from rest_framework.views import APIView
from flagcache_posthog.django import FlagRequiredMixin, flag_required
from rest_framework.decorators import api_view


class ForSeven(FlagRequiredMixin, APIView):
    flag_required = "only-7"

    def get(self, request):
        return Response({"user": request.user.pk})


@api_view(["GET"])
@flag_required("only-7")
def for_seven(request):
    return Response({"user": request.user.pk})
"""

API_TESTS = """
from django.contrib.auth.models import User
from django.test import TestCase
from rest_framework.authtoken.models import Token


class Api(TestCase):
    def test_the_user_of_the_token_counts(self):
        for pk, status in ((6, 404), (7, 200)):
            token = Token.objects.create(user=User.objects.create_user(f"user{pk}", pk=pk))
            for url in ("/class/", "/function/"):
                answer = self.client.get(url, headers={"authorization": f"Token {token.key}"})
                assert answer.status_code == status, (url, answer.content)
        assert self.client.get("/class/").status_code == 404
"""


@pytest.fixture
def make(tmp_path: Path, posthog: RemoteStandIn) -> Make:
    """Makes a project on a PostHog with a flag for user 7, and flags that cannot be decided locally."""
    sticky = {**make_flag("sticky"), "ensure_experience_continuity": True}
    flags = [make_flag("new-checkout"), for_user("only-7", "7"), sticky]
    posthog.serve({"flags": flags, "group_type_mapping": {}, "cohorts": {}})

    def make_project(store: str, *, settings: str = "", **files: str) -> DjangoProject:
        named = {f"shop/{name}.py": text for name, text in files.items()}
        return DjangoProject(tmp_path / "project", posthog.url, store, settings=settings, files=named)

    return make_project


def test_no_query_and_no_request_of_ours(make: Make, posthog: RemoteStandIn, tmp_path: Path) -> None:
    """With sessions, tokens and async views, flags have the right user and cost only the queries for that user."""
    project = make(
        f"sqlite:///{tmp_path / 'flags.db'}", settings='ROOT_URLCONF = "shop.twins"\n', tests=QUERIES, twins=TWINS
    )
    assert "Ran 6 tests" in project.manage("test", "shop").stderr
    counts = posthog.counts()
    assert (counts.requests, counts.flags_calls) == (1, 0)


def test_the_sdks_own_middleware(make: Make, posthog: RemoteStandIn, tmp_path: Path) -> None:
    """With the SDK's middleware, which looks up the user in each request, flags cost no further query either."""
    settings = 'ROOT_URLCONF = "shop.twins"\n' + snippet("docs/django.md", "settings.py: with the SDK's own middleware")
    tests = QUERIES.replace('("/none/") == (0, {})', '("/none/") == (2, {})')
    tests = tests.replace("(2, 2, user", "(twin, twin, user")  # the middleware and a sync view each look up the user
    project = make(f"sqlite:///{tmp_path / 'flags.db'}", settings=settings, tests=tests, twins=TWINS)
    assert "Ran 6 tests" in project.manage("test", "shop").stderr
    assert posthog.counts().flags_calls == 0


def test_rest_framework_views(make: Make, tmp_path: Path) -> None:
    """The mixin and the decorator see the user whom the view has authenticated."""
    urls = (
        "from django.urls import path\nfrom shop.api import ForSeven, for_seven\n"
        "urlpatterns = [path('class/', ForSeven.as_view()), path('function/', for_seven)]\n"
    )
    project = make(f"sqlite:///{tmp_path / 'flags.db'}", api=API_VIEWS, urls=urls, tests=API_TESTS)
    assert "Ran 1 test " in project.manage("test", "shop").stderr


def test_the_docs_tests_open_no_connection(make: Make, posthog: RemoteStandIn) -> None:
    """The docs' three overrides need no store and no PostHog; with the docs' setting no event is sent either."""
    with socket.create_server(("127.0.0.1", 0)) as store:
        store.settimeout(0)
        address = f"redis://127.0.0.1:{store.getsockname()[1]}/0"
        project = make(address)
        assert "Ran 3 tests" in project.manage("test", "shop").stderr
        (project.folder / "shop/tests_settings.py").write_text(
            'from shop.settings import *\n\nFLAGCACHE = {"DISABLED": True}\n'
        )
        assert posthog.requests == 0
        sent = posthog.counts().events
        project.manage("test", "shop", "--settings", "shop.tests_settings", "--parallel", "1")
        assert posthog.counts().events == sent
        with pytest.raises(BlockingIOError):
            store.accept()


def test_migrate_needs_no_redis(make: Make, posthog: RemoteStandIn) -> None:
    """No other command connects to anything either; settings are checked."""
    project = make(NOWHERE)
    project.manage("check", "--fail-level", "WARNING")
    project.manage("migrate")
    threads = "import threading; print([t.name for t in threading.enumerate()])"
    assert "['MainThread']" in project.manage("shell", "-c", threads).stdout
    assert posthog.counts().requests == 0


def test_a_mistake_is_refused(make: Make) -> None:
    """`check` refuses a mistake, and so does a server at its start."""
    project = make(NOWHERE, settings='FLAGCACHE["REFRESH_INTERVALL"] = 5\n')
    refused = project.try_to_manage("check")
    assert refused.returncode == 1
    assert "Did you mean REFRESH_INTERVAL?" in refused.stderr
    command = [sys.executable, "-c", "import shop.wsgi"]
    done = subprocess.run(command, cwd=project.folder, env=project.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ConfigurationError: FLAGCACHE['REFRESH_INTERVALL'] is no setting of flagcache." in done.stderr


def test_the_commands(make: Make, redis_server: RedisServer, posthog: RemoteStandIn, namespace: str) -> None:
    """Each command uses the project's store, namespace and keys, unless its arguments name another place."""
    signed = f'FLAGCACHE |= {{"NAMESPACE": "{namespace}", "SIGNING_KEY": "0123456789abcdef"}}\n'
    project = make(redis_server.url, settings=signed)
    nothing = project.try_to_manage("flagcache", "inspect", "--json")
    assert nothing.returncode == 0, nothing.stderr
    assert "fetched" in project.manage("flagcache", "refresh", "--once").stderr
    assert posthog.requests == 1
    found = json.loads(project.manage("flagcache", "inspect", "--json").stdout)
    assert (found["namespace"], found["protection"]) == (namespace, "signed")
    assert "phs_test" not in str(found)
    refused = project.try_to_manage("flagcache", "clear")
    assert refused.returncode == 2
    project.manage("flagcache", "clear", "--yes")
    assert "fetched" in project.manage("flagcache", "refresh", "--once").stderr
    elsewhere = project.manage("flagcache", "inspect", redis_server.url, f"{namespace}-2", "--json")
    assert json.loads(elsewhere.stdout)["namespace"] == f"{namespace}-2"
    assert "STORE_URL" in project.manage("flagcache", "inspect", "--help").stdout
    assert project.try_to_manage("flagcache", "demo", "--workers", "1").returncode == 2


def test_without_django_it_says_what_to_install() -> None:
    """The error names the extra, and no other module."""
    script = "import sys; sys.modules['django'] = None; import flagcache_posthog.django"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert 'MissingExtraError: flagcache_posthog.django needs an extra: pip install "flagcache[django]"' in done.stderr
