"""Scripts, management commands and the module `posthog`, with the examples of docs/frameworks.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from posthog import Posthog

from flagcache_posthog import RedisFlagDefinitionCache
from flagcache_posthog.testing import RemoteStandIn
from tests.frameworks.conftest import PAGE
from tests.support.servers import RedisServer
from tests.support.snippets import snippet
from tests.support.user_programs import posthog_environment


def _run(folder: Path, text: str, posthog: RemoteStandIn, server: RedisServer, *arguments: str) -> str:
    """What a program prints."""
    (folder / "program.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "program.py", *arguments],
        cwd=folder,
        env=posthog_environment(posthog.url, REDIS_URL=server.url, XDG_STATE_HOME=str(folder)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_scripts_cost_no_request(
    tmp_path: Path, posthog: RemoteStandIn, redis_server: RedisServer, namespace: str
) -> None:
    """Each has what a fleet stored, and asks PostHog for nothing; its events arrive."""
    cache = RedisFlagDefinitionCache(redis_server.url, namespace)
    worker = Posthog("phc_test", secret_key="phs_test", host=posthog.url, flag_definition_cache_provider=cache)
    worker.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    worker.shutdown()
    posthog.reset_counts()
    text = snippet(PAGE, "report.py").replace('"shop"', repr(namespace))
    for _ in range(2):
        assert _run(tmp_path, text, posthog, redis_server, "user-7", "x") == "user-7 b\nx False\n"
    counts = posthog.counts()
    assert (counts.requests, counts.flags_calls) == (0, 0)
    assert counts.events == {"$feature_flag_called": 4}


def test_a_script_without_a_fleet(
    tmp_path: Path, posthog: RemoteStandIn, redis_server: RedisServer, namespace: str
) -> None:
    """Without `role`, the first one asks PostHog; those that follow within the interval do not."""
    text = snippet(PAGE, "report.py").replace('"shop", role="reader"', repr(namespace))
    for _ in range(3):
        assert _run(tmp_path, text, posthog, redis_server, "user-7") == "user-7 b\n"
    assert (posthog.requests, posthog.counts().flags_calls) == (1, 0)


def test_the_module(tmp_path: Path, posthog: RemoteStandIn, redis_server: RedisServer, namespace: str) -> None:
    """Its global client evaluates locally, and an override reaches it; one request for the definitions."""
    text = (
        snippet(PAGE, "jobs.py").replace('"shop"', repr(namespace))
        + """
from flagcache_posthog.testing import override_flags

with override_flags({"price": "x"}):
    print(price_for("user-7"))
print(price_for("user-7"), price_for("x"))
posthog.shutdown()
"""
    )
    assert _run(tmp_path, text, posthog, redis_server) == "x\nb False\n"
    assert (posthog.requests, posthog.counts().flags_calls) == (1, 0)


COMMAND = """
import os, sys
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from flagcache import RedisFlagDefinitionCache
from flagcache_posthog.request_flags import RequestFlags
from posthog import Posthog

cache = RedisFlagDefinitionCache(os.environ["REDIS_URL"], "shop")
client = Posthog(
    os.environ["POSTHOG_PROJECT_API_KEY"],
    secret_key=os.environ["POSTHOG_SECRET_KEY"],
    host=os.environ["POSTHOG_HOST"],
    flag_definition_cache_provider=cache,
)

class Command(BaseCommand):
    def handle(self, *args, **options):
        self.stdout.write(str(RequestFlags(client, "user-7").get("price", "a")))

settings.configure()
django.setup()
call_command(Command())
"""


def test_a_management_command(
    tmp_path: Path, posthog: RemoteStandIn, redis_server: RedisServer, namespace: str
) -> None:
    """Management commands in a row, with the application's own client, share one fetch."""
    text = COMMAND.replace('"shop"', repr(namespace))
    for _ in range(2):
        assert _run(tmp_path, text, posthog, redis_server) == "b\n"
    assert (posthog.requests, posthog.counts().flags_calls) == (1, 0)
