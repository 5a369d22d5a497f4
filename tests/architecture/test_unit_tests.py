"""Each module has its unit tests at its own path below tests/unit, or a reason why other tests cover it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.architecture.without_unit_tests import WITHOUT_UNIT_TESTS

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "tests/unit"
EXCEPTIONS = 162
"""How many modules may be without unit tests. The number only goes down."""

EXCEPTED = [name for names in WITHOUT_UNIT_TESTS.values() for name in names]


@cache
def _modules() -> dict[str, bool]:
    """Each module of the two packages, as the path of its tests would begin, and whether it defines anything."""
    paths = [*(ROOT / "flagcache").rglob("*.py"), *(ROOT / "providers").rglob("*.py")]
    assert paths, "no module found: this test looks in the wrong place"
    return {path.relative_to(ROOT).as_posix().removesuffix(".py"): _has_code(path) for path in paths}


def _has_code(path: Path) -> bool:
    body = ast.parse(path.read_text()).body
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in body)


def _tested(path: Path) -> str | None:
    """The module that a unit test is about: `test_<module>.py`, or `test_<module>_<what>.py`."""
    folder, about = path.relative_to(UNIT).parent.as_posix(), path.stem.removeprefix("test_")
    here = {name.rpartition("/")[2]: name for name in _modules() if name.rpartition("/")[0] == folder}
    fits = [stem for stem in here if f"{about}_".startswith(f"{stem.strip('_')}_")]
    return here[max(fits, key=len)] if fits else None


def _unit_tests() -> list[Path]:
    return sorted(UNIT.rglob("test_*.py"))


@pytest.mark.parametrize("path", _unit_tests(), ids=lambda path: path.relative_to(UNIT).as_posix())
def test_a_unit_test_is_named_after_a_module(path: Path) -> None:
    """A unit test has the module's path below tests/unit, and the module's name."""
    assert _tested(path) is not None


def test_each_module_has_unit_tests() -> None:
    """Each module has unit tests, or is listed with a reason."""
    tested = {_tested(path) for path in _unit_tests()}
    missing = [name for name, code in _modules().items() if code and name not in tested]
    assert sorted(set(missing) - set(EXCEPTED)) == []


def test_the_list_of_exceptions_only_shrinks() -> None:
    """Each exception is a module without unit tests that defines something; none is listed twice, or is new."""
    tested = {_tested(path) for path in _unit_tests()}
    modules = _modules()
    stale = [name for name in EXCEPTED if not modules.get(name) or name in tested]
    assert stale == []
    assert len(EXCEPTED) == len(set(EXCEPTED))
    assert len(EXCEPTED) == EXCEPTIONS, "write the new number down: it is lower than before"


def test_unit_tests_need_no_sdk(tmp_path: Path) -> None:
    """All unit tests can be imported without the vendor's SDK."""
    (tmp_path / "no_sdk.py").write_text("import sys\nsys.modules['posthog'] = None\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no_sdk", "-p", "no:cacheprovider", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout
