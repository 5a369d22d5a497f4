"""The project of docs/django.md behind real servers: one fetch a fleet, and nothing in a server's parent."""

from __future__ import annotations

import http.client
import itertools
import json
from pathlib import Path

import pytest

from flagcache_posthog.testing import RemoteStandIn, make_flag
from tests.django.conftest import for_user
from tests.support.django_project import DjangoProject
from tests.support.fleet_tasks import asks
from tests.support.servers import MakeRedis, until
from tests.support.snippets import snippet
from tests.support.user_programs import get
from tests.support.web_applications import EVERY, FLAG, ServedApplication

GUNICORN = ("gunicorn", "--no-control-socket", "-b", "127.0.0.1:PORT", "-w", "2", "--preload", "shop.wsgi:application")
UVICORN = ("uvicorn", "--port", "PORT", "--workers", "2", "--lifespan", "off", "shop.asgi:application")
HELPER = snippet("docs/gunicorn.md", "gunicorn.conf.py: the helper")

SETTINGS = f"""
ROOT_URLCONF = "shop.home"
FLAGCACHE |= {{"REFRESH_INTERVAL": {EVERY}, "POLL_INTERVAL": {EVERY}, "IDENTIFY": "shop.home.identify"}}
"""

HOME = """
import os
from django.http import HttpResponse
from django.urls import include, path


def identify(request):
    return "everybody" if request.path in ("/", "/sync/") else None


def sync(request):
    return HttpResponse(f"{os.getpid()} {request.flags.is_enabled('new-checkout')}")


async def home(request):
    flags = await request.flags
    return HttpResponse(f"{os.getpid()} {flags.is_enabled('new-checkout')}")


def who(request):
    return HttpResponse(f"{request.flags.distinct_id} {request.flags.get('only-7')}")


async def awho(request):
    flags = await request.flags
    return HttpResponse(f"{flags.distinct_id} {flags.get('only-7')}")


pages = {"": home, "sync/": sync, "who/": who, "awho/": awho}
urlpatterns = [*(path(*page) for page in pages.items()), path("", include("shop.urls"))]
"""

VISITORS = """
import json
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token

made = {}
for pk in (6, 7):
    user = User.objects.create_user(f"user{pk}", pk=pk)
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY], session[HASH_SESSION_KEY] = str(pk), user.get_session_auth_hash()
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session.save()
    made[pk] = [session.session_key, Token.objects.create(user=user).key]
print(json.dumps(made))
"""


def threads_of(pid: int) -> int:
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def ask(port: int, path: str, **headers: str) -> str:
    """Ask for a page with these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={**headers, "Connection": "close"})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def serve(posthog: RemoteStandIn) -> None:
    """Let PostHog serve 200 flags, of which six cannot be decided locally."""
    sticky = [{**make_flag(f"sticky-{n}"), "ensure_experience_continuity": True} for n in range(6)]
    flags = [make_flag(FLAG), for_user("only-7", "7"), *sticky, *(make_flag(f"flag-{n}") for n in range(192))]
    posthog.serve({"flags": flags, "group_type_mapping": {}, "cohorts": {}})


def project_in(folder: Path, posthog: RemoteStandIn, store: str, *, settings: str = "", **files: str) -> DjangoProject:
    """A project with the pages of this module."""
    named = {f"shop/{name}.py": text for name, text in {"home": HOME, **files}.items()}
    return DjangoProject(folder, posthog.url, store, settings=SETTINGS + settings, files=named)


@pytest.mark.parametrize(("server", "helped"), [(GUNICORN, False), (GUNICORN, True), (UVICORN, False)])
def test_one_fetch_a_fleet(
    tmp_path: Path, make_redis: MakeRedis, posthog: RemoteStandIn, server: tuple[str, ...], helped: bool
) -> None:
    """Preloaded and ASGI workers make one request per interval and none to `/flags`; a change reaches all."""
    redis = make_redis()
    serve(posthog)
    conf = {"gunicorn.conf.py": HELPER} if helped else {}
    application = ServedApplication(tmp_path / "project", posthog, redis, conf)
    project_in(tmp_path / "project", posthog, redis.url)
    with application.run(*server):
        if helped:
            until(application.connections, 20.0, every=0.05, what="flags before the first request")
        application.wait_for_value("True", at_once=True)
        assert application.program.pid not in application.seen
        if server is GUNICORN:
            assert threads_of(application.program.pid) == 1
        posthog.set_flag(FLAG, active=False)
        application.wait_for_value("False")
        application.check_requests(1)
        assert application.program.end() in (0, -15)
        application.check_nothing_left(
            lapse=0 if server is GUNICORN else 3 * EVERY
        )  # uvicorn's workers run no exit hooks


def test_sessions_and_tokens(tmp_path: Path, make_redis: MakeRedis, posthog: RemoteStandIn) -> None:
    """Each kind of view, under WSGI with --preload and under ASGI, has the flags of the request's user."""
    redis = make_redis()
    serve(posthog)
    project = project_in(tmp_path / "project", posthog, redis.url)
    project.manage("migrate")
    visitors = json.loads(project.manage("shell", "--no-imports", "-c", VISITORS).stdout.splitlines()[-1])
    for server in (GUNICORN, UVICORN):
        program, port = project.serve("-m", *server)
        with program:
            program.get(port)
            for pk, (session, token) in visitors.items():
                expected = f"{pk} {pk == '7'}"
                for path in ("/who/", "/awho/"):
                    assert ask(port, path, Cookie=f"sessionid={session}") == expected
                answer = json.loads(ask(port, "/api/me/", Authorization=f"Token {token}"))
                assert answer == {"user": pk, "new": True}
            assert ask(port, "/who/") == ask(port, "/awho/") == "None None"
            assert "Traceback" not in program.log
    assert posthog.counts().flags_calls == 0


def test_runserver(tmp_path: Path, make_redis: MakeRedis, posthog: RemoteStandIn) -> None:
    """The reloader's parent has no thread and makes no request; the child that it restarts continues from the store."""
    redis = make_redis()
    serve(posthog)
    project = project_in(tmp_path / "project", posthog, redis.url)
    program, port = project.serve("manage.py", "runserver", "127.0.0.1:PORT", "--skip-checks")
    with program:
        first = program.get(port).split()[0]
        assert int(first) != program.pid
        assert threads_of(program.pid) == 1
        changed = itertools.count()

        def restarted() -> str:
            # Again and again: a change before the reloader's first look goes unseen.
            (project.folder / "shop/home.py").write_text(f"{HOME}\n\nCHANGED = {next(changed)}\n")
            pid = program.get(port).split()[0]
            return "" if pid == first else pid

        until(restarted, 30.0, every=0.1, what="the reloader's new child")
        assert get(port).split()[1] == "True"
        assert posthog.full_fetches == 1
        assert posthog.counts().flags_calls == 0


PAGE = "docs/django.md"

CELERY = """
import os
CELERY_BROKER_URL = CELERY_RESULT_BACKEND = os.environ["BROKER"]
"""

REPORT = """

@shared_task
def report(user):
    import os

    return [os.getpid(), client().feature_flags is not None, RequestFlags(client(), user).get("only-7")]
"""

SEND = """
import json
from shop.tasks import offer, report

assert offer.delay("7").get(timeout=30) == "a"
sent = [report.delay(user) for user in ("6", "7")]
print(json.dumps([each.get(timeout=30) for each in sent]))
"""


def test_celery_beside_a_server(tmp_path: Path, make_redis: MakeRedis, posthog: RemoteStandIn) -> None:
    """Both are one fleet; a child of Celery has flags before its first task, and its parent has no flagcache thread."""
    redis = make_redis(tcp=True)
    serve(posthog)
    files = {"__init__": "from .celery import app as celery_app\n", "celery": snippet(PAGE, "celery.py")}
    files["tasks"] = snippet(PAGE, "tasks.py") + REPORT
    project = project_in(tmp_path / "project", posthog, redis.url, settings=CELERY, **files)
    project.environ["BROKER"] = f"redis://127.0.0.1:{redis.port}/1"
    admin = redis.client()

    def listeners() -> int:
        return sum(client["db"] == "0" and client["sub"] != "0" for client in admin.client_list())

    words = ("--pool", "prefork", "-c", "2", "--loglevel", "INFO")
    worker, _ = project.serve("-m", "celery", "-A", "shop", "worker", *words)
    with worker:
        worker.prints(" ready.", within=30)
        until(lambda: listeners() == 2, 20, every=0.05, what="two loaded children")
        server, port = project.serve("-m", *GUNICORN)
        with server:
            assert server.get(port).split()[1] == "True"
            assert 3 <= listeners() <= 4
        answers = json.loads(project.manage("shell", "--no-imports", "-c", SEND).stdout.splitlines()[-1])
        assert [answer[1:] for answer in answers] == [[True, False], [True, True]]
        assert worker.pid not in {answer[0] for answer in answers}
        assert posthog.full_fetches == 1
        assert _one_an_interval(posthog)


def _one_an_interval(posthog: RemoteStandIn) -> bool:
    """Whether requests kept the distance of grants, as far as a busy machine allows: never two at one time."""
    arrived = [served.arrived_at for served in asks(posthog)]
    return all(later - earlier > 0.5 * EVERY for earlier, later in itertools.pairwise(arrived))
