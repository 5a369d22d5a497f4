"""`posthoganalytics`, the SDK's second name: the same code in other modules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import posthog as sdk
import pytest

from flagcache_posthog.testing import PostHogStandIn, make_definitions
from tests.support.user_programs import posthog_environment

PROGRAM = """
import json, sys, time
import posthoganalytics
from flagcache import MemoryFlagDefinitionCache
from flagcache.status import Role

cache = MemoryFlagDefinitionCache("team", refresh_interval=0.3)
make = dict(secret_key="phs_x", host=sys.argv[1], poll_interval=30, flag_definition_cache_provider=cache)
client = posthoganalytics.Posthog("phc_x", **make)
if sys.argv[2] == "explicitly":
    assert cache.attach(client) is client
client.load_feature_flags()
print("loaded", flush=True)
sys.stdin.readline()
deadline = time.monotonic() + 10
while client.get_feature_flag("revision", "user", only_evaluate_locally=True) != "r2" and time.monotonic() < deadline:
    time.sleep(0.02)
seen = client.get_feature_flag("revision", "user", only_evaluate_locally=True)
print(json.dumps([seen, cache.status().fetches, type(client).__module__]))
client.shutdown()
"""


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed SDK under its second name."""
    folder, source = tmp_path_factory.mktemp("second"), Path(sdk.__file__).parent
    for path in source.rglob("*.py"):
        target = folder / "posthoganalytics" / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(re.sub(r"\b(from|import) posthog\b", r"\1 posthoganalytics", path.read_text()))
    return folder


@pytest.mark.parametrize("how", ["explicitly", "by itself"])
def test_a_client_of_the_second_name_is_attached(second: Path, how: str) -> None:
    """A change is pushed to it, long before its poll; the fleet fetches for it."""
    with PostHogStandIn(make_definitions(3)) as posthog:
        environment = posthog_environment(posthog.url)
        environment["PYTHONPATH"] = os.pathsep.join([str(second), environment["PYTHONPATH"]])
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, posthog.url, how]
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "loaded\n"
            posthog.serve(make_definitions(3, revision=2))
            output, _ = program.communicate("go\n", timeout=30)
        revision, fetches, module = json.loads(output)
    assert (revision, module.partition(".")[0]) == ("r2", "posthoganalytics")
    assert fetches >= 2
