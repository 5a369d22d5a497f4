"""One project before and after it moves from mitol-django-olposthog, in processes of its own.

`BEFORE` is what mitol-django-olposthog 2026.4.2 answers the same project; what it costs there is in docs/moving.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typing_extensions import Self

from flagcache_posthog.testing import Definitions, RemoteStandIn, make_definitions, make_flag
from tests.support.redis_server import RedisServer
from tests.support.servers import until

PROGRAM = Path(__file__).with_name("moved_project.py")
OURS = "flagcache_posthog.django.olposthog"

CALLS: list[list[Any]] = [
    ["default_unique_id"],
    ["is_enabled", "on"],
    ["is_enabled", "on", None, "user-7"],
    ["is_enabled", "off"],
    ["is_enabled", "off", True],
    ["is_enabled", "price"],
    ["is_enabled", "for-prod"],
    ["is_enabled", "sticky", None, "user-7"],
    ["is_enabled", "in-settings"],
    ["is_enabled", "in-settings", False],
    ["is_enabled", "no-such"],
    ["is_enabled", "no-such", True],
    ["get_all_feature_flags", "user-7"],
]
BEFORE: list[object] = [
    "web-1",
    *(True, True, False, False, "b", True, True),
    *(True, True, False, True),
    {"on": True, "off": False, "price": "b", "for-prod": True, "sticky": True},
]


def _definitions() -> Definitions:
    made = make_definitions(0)
    in_prod = make_flag("for-prod")
    in_prod["filters"]["groups"][0]["properties"] = [
        {"key": "environment", "value": ["prod"], "operator": "exact", "type": "person"}
    ]
    sticky = make_flag("sticky")
    sticky["ensure_experience_continuity"] = True
    made["flags"] = [make_flag("on"), make_flag("off", active=False), make_flag("price", variants={"b": 100})]
    made["flags"] += [in_prod, sticky]
    return made


class Answer(NamedTuple):
    """A call's result and its cost."""

    value: object
    sql: int


def _inherited(environment: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}


class Process:
    """One process of the project."""

    def __init__(self, environment: dict[str, str], module: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_inherited(environment),
        )

    def call(self, *call: object) -> Answer:
        """Call a function of the module by its name."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return Answer(found["answer"], found["sql"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close() if self.process.stdin else None
        self.process.wait(20)
        self.process.stdout.close() if self.process.stdout else None


@pytest.fixture
def start(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, tmp_path: Path
) -> Iterator[Callable[..., Process]]:
    """Starts processes of the project, which share a prepared database and a Redis."""
    posthog.serve({**_definitions()})
    common = {"POSTHOG_HOST": posthog.url, "DATABASE": str(tmp_path / "project.db"), "NAMESPACE": namespace}
    subprocess.run([sys.executable, str(PROGRAM), "createcachetable"], env=_inherited(common), check=True, timeout=60)
    with ExitStack() as processes:

        def make(**environment: str) -> Process:
            module = environment.pop("MODULE", OURS)
            return processes.enter_context(Process({**common, "STORE": redis_server.url, **environment}, module))

        yield make


@pytest.mark.parametrize("personal_api_key", ["phx_test", ""], ids=["locally", "by PostHog"])
def test_it_gets_the_values_of_before(
    start: Callable[..., Process], posthog: RemoteStandIn, personal_api_key: str
) -> None:
    """The values are the same as before with a personal API key, and without one, when PostHog evaluates."""
    if not personal_api_key:
        definitions = _definitions()  # the stand-in evaluates no properties
        definitions["flags"][3] = make_flag("for-prod")
        posthog.serve({**definitions})
    project = start(PERSONAL_API_KEY=personal_api_key)
    assert [project.call(*call).value for call in CALLS] == BEFORE


def test_what_it_costs(start: Callable[..., Process], posthog: RemoteStandIn) -> None:
    """A flag that is decided locally costs no SQL and no request, and so does a key that PostHog does not know."""
    project = start(PERSONAL_API_KEY="phx_test")
    local = [project.call(*call).sql for call in CALLS if call[1:2] != ["sticky"] and call[0] == "is_enabled"]
    assert local == [0] * len(local)
    assert (posthog.counts().requests, posthog.counts().flags_calls) == (1, 0)
    assert [project.call("is_enabled", "sticky", None, "user-7").value for _ in range(3)] == [True] * 3
    project.call("get_all_feature_flags", "user-7")
    assert posthog.counts().flags_calls == 1


def test_without_a_personal_key_one_request_brings_all_flags_of_a_user(
    start: Callable[..., Process], posthog: RemoteStandIn
) -> None:
    """It is kept in `durable` for all processes; before, each flag was a request, and an unknown key one per call."""
    first, second = start(), start()
    for project in (first, second, first):
        assert [project.call("is_enabled", key).value for key in ("on", "off", "price", "no-such")] == [
            True,
            False,
            "b",
            False,
        ]
    assert (posthog.counts().requests, posthog.counts().flags_calls) == (0, 1)


def test_processes_share_one_fetch_and_follow_a_kill_switch(
    start: Callable[..., Process], posthog: RemoteStandIn
) -> None:
    """Processes share one fetch; before, each one polled, and a result in `durable` outlived the kill switch."""
    fleet = [start(PERSONAL_API_KEY="phx_test", POLL_INTERVAL="1") for _ in range(3)]
    assert [project.call("is_enabled", "on").value for project in fleet] == [True] * 3
    assert posthog.counts().full_fetches == 1
    posthog.set_flag("on", active=False)
    for project in fleet:
        until(lambda project=project: project.call("is_enabled", "on").value is False, what="the flag to be off")  # type: ignore[misc]
    assert posthog.counts().full_fetches == 2
