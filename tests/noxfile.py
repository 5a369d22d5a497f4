"""The matrix: each version that flagcache is tested with, and the oldest and newest ones combined.

`make matrix` runs all of it, `make matrix ARGS="-s oldest"` one line; what follows `--` goes to pytest instead of the
paths below. An interpreter that is not installed is left out, and the summary says so. What a line installs is pinned
in `.ci/requirements/`: "newest" is what was newest when `make pins` last ran.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import nox

__all__ = ["MATRIX", "NEWEST_OF_ALL", "Line", "lowest", "pins_of", "requirements"]

ROOT = Path(__file__).parents[1]
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")

LOWEST = "lowest"
NEWEST = "newest"
NEWEST_OF_ALL = "newest"
"""The pins of each line that has the newest of everything, and of the built wheel's tests."""


@dataclass(frozen=True)
class Line:
    """One line of the matrix."""

    python: str
    redis: str = NEWEST
    """`newest`, `lowest` (the bound of pyproject.toml), or the major version of which the newest is taken."""
    posthog: str = NEWEST
    others: str = NEWEST
    """Every other library that flagcache needs, of its extras too."""
    hiredis: bool = False
    """With the parser in C, which redis-py uses if it is installed."""

    def __str__(self) -> str:
        parser = ", hiredis" if self.hiredis else ""
        return f"Python {self.python}, redis {self.redis}{parser}, posthog {self.posthog}, others {self.others}"


MATRIX = {
    "oldest": Line("3.10", redis=LOWEST, posthog=LOWEST, others=LOWEST),
    "oldest-sdk": Line("3.13", posthog=LOWEST),
    "redis-5": Line("3.13", redis=LOWEST),
    "redis-6": Line("3.12", redis="6"),
    "redis-7": Line("3.11", redis="7"),
    "hiredis": Line("3.12", hiredis=True),
    "newest-3.10": Line("3.10"),
    "newest-3.11": Line("3.11"),
    "newest-3.12": Line("3.12"),
    "newest-3.13": Line("3.13"),
    "newest-3.14": Line("3.14"),
    "newest-3.15": Line("3.15"),
}

# Tests that depend on a library or on Python, without those of our own logic only and those that run for minutes.
TESTS = (
    *(f"tests/posthog/test_{part}.py" for part in ("async_provider", "definitions", "lifecycle", "mixed_fleet")),
    *(f"tests/posthog/test_{part}.py" for part in ("override_flags", "override_flags_meanwhile", "request_flags")),
    *(f"tests/posthog/test_{part}.py" for part in ("override_flags_pytest", "provider", "provider_contract")),
    *(f"tests/stores/test_redis_{part}.py" for part in ("address", "asyncio", "cluster", "fork", "link")),
    *(f"tests/stores/test_redis_{part}.py" for part in ("sentinel", "sharing", "subscription", "tls")),
    *(f"tests/stores/test_{part}.py" for part in ("contract", "fallback", "sqlite_file")),
    *(f"tests/attach/test_{part}.py" for part in ("own_fetch", "unchanged")),
    *("tests/fleet/test_cold_start.py", "tests/fleet/test_fork.py"),
    *("tests/unit", "tests/processes/test_process.py", "tests/cli/test_cli.py", "tests/cli/test_store.py"),
)

# redis-py 5.0 leaves a socket that could not connect to the garbage collector, which says so.
LEFT_SOCKETS = ("-W", "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")

nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.envdir = str(ROOT / ".nox")


def lowest() -> dict[str, str]:
    """The lowest version of each library that flagcache needs, of its extras too, as pyproject.toml bounds it."""
    project = PROJECT["project"]
    texts = chain(project["dependencies"], *project["optional-dependencies"].values())
    found = (re.match(r"([\w-]+)>=([\d.]+)", text) for text in texts)
    return {match[1]: match[2] for match in found if match}


def requirements(line: Line) -> list[str]:
    """What this line needs in addition to flagcache's own dependencies."""
    wanted = dict.fromkeys(lowest(), line.others) | {"redis": line.redis, "posthog": line.posthog}
    texts = [_requirement(name, version) for name, version in wanted.items() if version != NEWEST]
    return [*texts, "redis[hiredis]"] if line.hiredis else texts


def pins_of(name: str) -> str:
    """The file in `.ci/requirements/` that one line installs, without `.txt`."""
    return name if requirements(MATRIX[name]) else NEWEST_OF_ALL


def _requirement(name: str, version: str) -> str:
    if version == LOWEST:
        return f"{name}=={lowest()[name]}"
    return f"{name}>={version},<{int(version) + 1}"


def _register(name: str, line: Line) -> None:
    def run(session: nox.Session) -> None:
        session.chdir(ROOT)  # nox starts in this file's directory
        session.install("--require-hashes", "--no-deps", "--requirement", f".ci/requirements/{pins_of(name)}.txt")
        session.install("--no-deps", "--no-build-isolation", "--editable", ".")
        session.run("python", "-m", "pip", "check")
        allowed = LEFT_SOCKETS if line.redis == LOWEST else ()
        session.run("pytest", "-m", "not slow", *allowed, *(session.posargs or TESTS), env={"PYTHONPATH": None})

    run.__doc__ = str(line)
    nox.session(name=name, python=line.python)(run)


for _name, _line in MATRIX.items():
    _register(_name, _line)
