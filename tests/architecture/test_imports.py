"""What `from flagcache import RedisFlagDefinitionCache` imports, in each process that starts."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import RedisServer

ROOT = Path(__file__).parents[2]
OURS = {"flagcache", "flagcache_posthog"}
DEFINITIONS = json.dumps({"flags": [], "group_type_mapping": {"0": "team"}, "cohorts": {}}, sort_keys=True)

SCRIPT = """
import dataclasses, json, sys
import posthog, redis

def ours():
    return [name for name in sys.modules if name.partition(".")[0] in ("flagcache", "flagcache_posthog")]

def compiled():
    kinds = (kind for name in ours() for kind in vars(sys.modules[name]).values() if isinstance(kind, type))
    return sorted({kind.__qualname__ for kind in kinds if dataclasses.is_dataclass(kind) and kind.__module__ in ours()})

before = set(sys.modules)
from flagcache import RedisFlagDefinitionCache
imported = sorted(set(sys.modules) - before)
RedisFlagDefinitionCache("redis://127.0.0.1:1/0", "team", fallback=None)
made = sorted(set(sys.modules) - before - set(imported))
RedisFlagDefinitionCache("redis://127.0.0.1:1/0", "team")
print(json.dumps({"imported": imported, "made": made, "compiled": compiled()}))
"""

AT_WORK = """
import json, sys, threading
import posthog
from flagcache import RedisFlagDefinitionCache

leader, follower = (
    RedisFlagDefinitionCache(sys.argv[1], sys.argv[2], fallback=sys.argv[3], cold_start_wait=2) for _ in range(2)
)
before = set(sys.modules)
seen = []

def see(answer):
    seen.append(json.dumps(answer, sort_keys=True))

def work():
    see(leader.should_fetch_flag_definitions())
    see(follower.should_fetch_flag_definitions())
    see(follower.get_flag_definitions())
    leader.on_flag_definitions_received(json.loads(sys.argv[4]))
    follower.should_fetch_flag_definitions()
    see(follower.get_flag_definitions())
    leader.shutdown()
    follower.shutdown()

thread = threading.Thread(target=work)
thread.start()
thread.join()
print(json.dumps({"loaded": sorted(set(sys.modules) - before), "seen": seen}))
"""


def _printed_by(script: str, *arguments: str) -> dict[str, list[str]]:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    printed: dict[str, list[str]] = json.loads(done.stdout)
    return printed


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """Return what a fresh interpreter with the SDK and redis-py loads at the import, for a first cache, and in all."""
    return _printed_by(SCRIPT)


def _public(modules: list[str], package: str) -> set[str]:
    """Return the modules directly in this package whose names are public."""
    inside = (name.removeprefix(f"{package}.") for name in modules if name.startswith(f"{package}."))
    return {name for name in inside if "." not in name and not name.startswith("_")}


def _foreign(modules: list[str]) -> set[str]:
    """The distributions, other than ours, that installed these modules.

    Distributions and not modules, because an extension may register helpers of its compiler that no distribution names.
    """
    installed = importlib.metadata.packages_distributions()
    packages = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - OURS
    return {distribution for package in packages for distribution in installed.get(package, ())}


def test_the_import_loads_the_engine_and_one_provider(loaded: dict[str, list[str]]) -> None:
    """The import loads no command, no deployment, no other cache, and no store but the process's own memory."""
    imported = loaded["imported"]
    assert {"cli", "testing"} & _public(imported, "flagcache") == set()
    assert _public(imported, "flagcache.stores") == {
        "abilities",
        "base",
        "content",
        "fallback",
        "memory",
        "rights",
        "rules",
        "spec",
        "unexpected",
        "verbs_by_rules",
    }
    assert _public(imported, "flagcache_posthog") == {"attach", "definitions", "fetcher", "provider"}


def test_the_import_loads_two_libraries_of_others(loaded: dict[str, list[str]]) -> None:
    """A cache loads only the SDK, redis-py and what they need, nothing of SQLite and of no extra."""
    assert _foreign(loaded["imported"]) == {"msgpack", "tenacity"}
    assert {"_sqlite3", "ctypes", "sqlite3"}.isdisjoint(loaded["imported"])


def test_a_first_cache_loads_its_store(loaded: dict[str, list[str]]) -> None:
    """The constructor imports everything, because a child forked during a later import could never import it."""
    assert _public(loaded["made"], "flagcache.stores") == {"redis"}
    assert _foreign(loaded["made"]) <= {"redis"}


def test_what_threads_do_loads_nothing(redis_server: RedisServer, namespace: str, tmp_path: Path) -> None:
    """Polls, a cold wait that ends with a turn, a publication, an adoption and the shutdown import nothing either."""
    printed = _printed_by(AT_WORK, redis_server.url, namespace, str(tmp_path), DEFINITIONS)
    assert printed["seen"] == ["true", "false", "null", DEFINITIONS]
    assert printed["loaded"] == []


def test_two_kinds_of_values_are_compiled_at_each_start(loaded: dict[str, list[str]]) -> None:
    """A dataclass costs ten times a NamedTuple, so only classes that check or fill in their values are one."""
    assert loaded["compiled"] == ["CacheConfig", "Settings"]


def test_distributions_are_counted_and_not_modules() -> None:
    """Modules that a compiler registers beside an extension belong to no distribution; installed ones are counted."""
    assert _foreign(["requests.sessions", "_cython_3_3_0", "json", "flagcache.errors"]) == {"requests"}
