"""README, pyproject.toml and the matrix name the same versions."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from tests import noxfile
from tests.noxfile import LOWEST, MATRIX, NEWEST, PROJECT

ROOT = Path(__file__).parents[2]


def _pythons() -> list[str]:
    """The versions of Python that the classifiers name, in their order."""
    found = (
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", text) for text in PROJECT["project"]["classifiers"]
    )
    return [match[1] for match in found if match]


def test_the_readme_states_the_bounds_of_the_project() -> None:
    """Python, SDK and redis-py: the README's sentence is made of pyproject.toml's numbers."""
    lowest = noxfile.lowest()
    first, *_, last = _pythons()
    stated = f"Python {first} to {last}, `posthog` {lowest['posthog']} and up, `redis` {lowest['redis']} and up"
    assert stated in " ".join((ROOT / "README.md").read_text().split())
    assert f"`posthog` {lowest['posthog']}" in (ROOT / "docs" / "versions.md").read_text()


def test_the_lowest_python_is_named_once_everywhere() -> None:
    """`requires-python`, both type checkers and ruff agree with the first classifier."""
    first = _pythons()[0]
    tool = PROJECT["tool"]
    assert PROJECT["project"]["requires-python"] == f">={first}"
    assert tool["mypy"]["python_version"] == tool["pyright"]["pythonVersion"] == first
    assert tool["ruff"]["target-version"] == f"py{first.replace('.', '')}"


def test_the_matrix_runs_every_python_with_the_newest_of_all() -> None:
    """Each classifier has its line, and no line has another Python."""
    newest = {line.python for line in MATRIX.values() if line == noxfile.Line(line.python)}
    assert sorted(newest) == sorted(_pythons()) == sorted({line.python for line in MATRIX.values()})


def test_the_matrix_runs_every_major_version_of_redis_py() -> None:
    """The matrix has every major version of redis-py, from the lowest supported one to the newest."""
    lowest, newest = (int(version.split(".")[0]) for version in (noxfile.lowest()["redis"], metadata.version("redis")))
    majors = {line.redis for line in MATRIX.values()} - {LOWEST, NEWEST}
    assert majors == {str(major) for major in range(lowest + 1, newest)}


def test_the_matrix_runs_oldest_and_newest_with_each_other() -> None:
    """The matrix has all oldest versions together, and the oldest SDK and redis-py each with the newest others."""
    assert MATRIX["oldest"] == noxfile.Line(_pythons()[0], redis=LOWEST, posthog=LOWEST, others=LOWEST)
    others = {(line.redis, line.posthog) for line in MATRIX.values() if line.others == NEWEST}
    assert {(NEWEST, LOWEST), (LOWEST, NEWEST)} <= others


def test_the_oldest_are_the_bounds_of_the_project() -> None:
    """The line of the oldest versions requires exactly the lower bound of each requirement, and leaves out none."""
    wanted = set(noxfile.requirements(MATRIX["oldest"]))
    project = PROJECT["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    assert wanted == {text.replace(">=", "==") for text in texts}
