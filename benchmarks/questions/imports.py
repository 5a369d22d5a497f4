"""What importing flagcache takes, on top of the SDK and redis-py: an application with a Redis has them anyway."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.contestants.contestant import Contestant
from benchmarks.model import Case, Measure, Question, Readings, Scale
from benchmarks.stage import Stage

__all__ = ["QUESTION"]

_CODE = """
import json, sys, time

def timed(code):
    began = time.perf_counter()
    exec(code, names)
    return time.perf_counter() - began

names = {}
print(json.dumps({
    "sdk": timed("import posthog"),
    "redis_py": timed("import redis"),
    "front": timed("import flagcache"),
    "cache": timed("from flagcache import RedisFlagDefinitionCache as Cache"),
    "made": timed("cache = Cache('redis://127.0.0.1:1/0', 'benchmark', fallback=None)"),
}))
"""


def _cases(scale: Scale) -> Sequence[Case]:
    return [Case("a fresh process", 3 if scale.quick else 10, flags=10)]


def _play(_stage: Stage, _contestant: Contestant, case: Case) -> Readings:
    told = [_run() for _ in range(case.workers + 1)][1:]  # the first compiles, and warms the page cache
    readings = {name: [each[name] for each in told] for name in told[0]}
    readings["flagcache"] = [each["front"] + each["cache"] + each["made"] for each in told]
    return readings


def _run() -> dict[str, float]:
    """Time the imports in a process of their own."""
    done = subprocess.run([sys.executable, "-c", _CODE], check=True, stdout=subprocess.PIPE, timeout=120)
    told: dict[str, float] = json.loads(done.stdout)
    return told


QUESTION = Question(
    name="imports",
    title="What an import takes, one after the other in a fresh process",
    measures=(
        Measure("flagcache", "all of flagcache's", "seconds"),
        Measure("front", "`import flagcache`", "seconds"),
        Measure("cache", "`from flagcache import RedisFlagDefinitionCache`", "seconds"),
        Measure("made", "the first cache made (loads the store's module)", "seconds"),
        Measure("redis_py", "`import redis`, before it", "seconds"),
        Measure("sdk", "`import posthog`, before that", "seconds"),
    ),
    cases=_cases,
    play=_play,
    contestants=("attached",),
)
