"""Celery: the flags of a task's user, on a real worker and in tests, with the examples of docs/frameworks.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from flagcache_posthog.testing import RemoteStandIn
from tests.frameworks.conftest import PAGE
from tests.support.servers import RedisServer, newest_binary
from tests.support.snippets import snippet
from tests.support.user_programs import Program, posthog_environment

ASK = "print(make_offer.delay().get(timeout=30))"
"""What the docs' sender does, and what its task returned."""

EAGER = """
import pytest
from flagcache_posthog.testing import UnknownFlagError, override_flags
from offers import app, make_offer

app.conf.update(task_always_eager=True, task_eager_propagates=True)

@override_flags({"price": "x"})
def test_eager():
    assert make_offer.delay("user-7").get() == "x"

def test_unknown():
    with pytest.raises(UnknownFlagError, match="'price'"), override_flags({"prise": "x"}):
        make_offer.delay("user-7")
"""


def test_a_tasks_user(tmp_path: Path, posthog: RemoteStandIn, namespace: str) -> None:
    """A task uses the user that it is passed, else that of the sender's context; its children share one fetch."""
    (tmp_path / "offers.py").write_text(snippet(PAGE, "offers.py").replace('"shop"', repr(namespace)))
    sender = snippet(PAGE, "send.py").replace("make_offer.delay()", ASK)
    for given in ("'x'", "user='user-7'"):
        sender += ASK.replace("delay()", f"delay({given})") + "\n"
    (tmp_path / "send.py").write_text(sender)
    with RedisServer(newest_binary(), tcp=True) as server:
        environ = posthog_environment(
            posthog.url,
            REDIS_URL=server.url,
            BROKER_URL=f"redis://127.0.0.1:{server.port}/1",
            CELERY_RESULT_BACKEND=f"redis://127.0.0.1:{server.port}/2",
            XDG_STATE_HOME=str(tmp_path),
        )
        command = [sys.executable, "-m", "celery", "-A", "offers", "worker", "--loglevel", "INFO", "-c", "2"]
        with Program(tmp_path, command, environ) as worker:
            worker.prints(" ready.", within=40)
            done = subprocess.run(
                [sys.executable, "send.py"],
                cwd=tmp_path,
                env=environ,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.stdout.split() == ["b", "False", "b"], done.stderr + worker.log
            assert worker.end(within=30) == 0
            assert "Traceback" not in worker.log
    assert (posthog.full_fetches, posthog.counts().flags_calls) == (1, 0)


def test_tasks_that_run_at_once(tmp_path: Path) -> None:
    """With `task_always_eager`, an override holds, and a flag that it does not name fails the test."""
    (tmp_path / "offers.py").write_text(snippet(PAGE, "offers.py"))
    (tmp_path / "test_offers.py").write_text(EAGER)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey", str(tmp_path)]
    environ = posthog_environment(
        "http://127.0.0.1:1", REDIS_URL="redis://127.0.0.1:1/0", BROKER_URL="redis://127.0.0.1:1/1"
    )
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=100)
    assert "2 passed" in done.stdout, done.stdout
