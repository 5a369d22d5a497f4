"""Every log line of the library begins with cache and process, so that one pattern finds them all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (ROOT / "flagcache", ROOT / "providers" / "flagcache_posthog")
KNOWS = {"CacheConfig", "_namespace", "namespace"}
"""The names that a module uses for its cache's namespace."""

CATCHES = {"log_exceptions": 2, "log_failure": 0}
"""What logs an exception that was caught, and at which place its namespace stands; the message follows it."""

LEVELS = {"critical", "debug", "error", "exception", "info", "log", "warning"}


def _modules() -> Iterator[tuple[Path, list[ast.AST]]]:
    """Yield the nodes of each module, without the tools for tests."""
    for path in (path for room in ROOMS for path in sorted(room.rglob("*.py")) if "testing" not in path.parts):
        yield path, list(ast.walk(ast.parse(path.read_text())))


def _calls() -> Iterator[tuple[str, ast.Call]]:
    """Each call of a logger."""
    for path, nodes in _modules():
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id in ("_log", "logger"):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def _named(nodes: list[ast.AST]) -> set[str]:
    """Every name and attribute that occurs."""
    named = {getattr(node, word, None) for node in nodes for word in ("id", "attr", "arg")}
    return {name for name in named if isinstance(name, str)}


def _caught() -> Iterator[tuple[str, ast.Call, bool]]:
    """Yield each call whose errors are caught and logged, and whether its module knows its cache."""
    for path, nodes in _modules():
        knows = not KNOWS.isdisjoint(_named(nodes))
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CATCHES:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node, knows


def _arguments(call: ast.Call) -> list[ast.expr]:
    """The namespace, the message and its values, in a call that logs what was caught."""
    assert isinstance(call.func, ast.Name)
    return call.args[CATCHES[call.func.id] :]


CALLS = dict(_calls())


def _loggers() -> Iterator[tuple[str, str]]:
    """Each module that makes a logger, with the logger's name."""
    for path, nodes in _modules():
        for node in nodes:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_log":
                room = next(room.name for room in ROOMS if room in path.parents)
                name = ast.unparse(node.value).removeprefix("logging.getLogger(").strip("')")
                yield f"{path.relative_to(ROOT)}:{node.lineno}", name.replace("__name__", room)


LOGGERS = dict(_loggers())


def test_the_loggers_are_found() -> None:
    """The test finds the loggers of events, of caught exceptions, and of what a file or a server's fork does."""
    assert {where.partition(":")[0] for where in CALLS} >= {"flagcache/event_log.py", "flagcache/runtime/guard.py"}


@pytest.mark.parametrize("where", CALLS)
def test_each_line_begins_with_the_cache_and_the_process(where: str) -> None:
    """The first value of each line is the result of `prefix`."""
    values = [value for value in CALLS[where].args if isinstance(value, ast.Call)]
    made = [value.func.id for value in values if isinstance(value.func, ast.Name)]
    assert made[:1] == ["prefix"], where


def test_what_is_caught_names_its_cache() -> None:
    """A logged exception has the namespace if its module knows one; else the line is about no single cache."""
    known = {where: isinstance(_arguments(call)[0], ast.Constant) for where, call, knows in _caught() if knows}
    assert {where.partition(":")[0] for where in known} >= {
        "flagcache/coordinator.py",
        "flagcache/worker/listener.py",
        "providers/flagcache_posthog/_base.py",
    }
    assert not [where for where, is_left_out in known.items() if is_left_out]


def test_what_is_caught_is_formatted_only_if_it_is_logged() -> None:
    """The message is not an f-string, which each call would format; its values are arguments."""
    built = [where for where, call, _ in _caught() if isinstance(_arguments(call)[1], ast.JoinedStr)]
    assert not built


@pytest.mark.parametrize("where", LOGGERS)
def test_each_line_reaches_the_handlers_of_one_logger(where: str) -> None:
    """Each logger is `flagcache` or below it, where a server or a command adds its handler."""
    assert LOGGERS[where] == "flagcache"
