"""How long importing flagcache takes after the SDK and redis-py, which an application with a Redis imports anyway."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contestants.contestant import Contestant
from benchmarks.contestants.fresh import repeat
from benchmarks.runner.model import Case, Measure, Question, Readings, Scale
from benchmarks.runner.servers import Servers

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
    "fallback": timed("cache = Cache('redis://127.0.0.1:1/0', 'benchmark')"),
}))
"""


def _cases(scale: Scale) -> Sequence[Case]:
    return [Case("a fresh process", 3 if scale.quick else 10, flags=10)]


def _play(_servers: Servers, _contestant: Contestant, case: Case) -> Readings:
    printed = repeat(["-c", _CODE], case.workers)
    printed["imported"] = [front + cache for front, cache in zip(printed["front"], printed["cache"], strict=True)]
    return printed


QUESTION = Question(
    name="imports",
    title="How long imports take, one after the other in a fresh process",
    measures=(
        Measure("imported", "`from flagcache import RedisFlagDefinitionCache`", "seconds"),
        Measure("front", "of that, `import flagcache`", "seconds"),
        Measure("made", "the first cache made (loads the store's module)", "seconds"),
        Measure("fallback", "another with a fallback store (loads SQLite)", "seconds"),
        Measure("redis_py", "`import redis`, before it", "seconds"),
        Measure("sdk", "`import posthog`, before that", "seconds"),
    ),
    cases=_cases,
    play=_play,
    contestants=("attached",),
    repeats=2,
)
