"""The wheel and the sdist contain what they should, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, and a wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _package_files() -> set[str]:
    """Return the files of the two packages of this tree, named as an importer names them."""
    found: set[str] = set()
    for base in (ROOT, ROOT / "providers"):
        for path in base.glob("flagcache*/**/*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(path.relative_to(base).as_posix())
    return found


def test_the_wheel_holds_the_packages_and_nothing_else(dist: Path) -> None:
    """The wheel contains every file of both packages, also scripts and type markers, and otherwise only metadata."""
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == _package_files()
    assert {"flagcache/py.typed", "flagcache_posthog/py.typed"} <= names


def test_the_sdist_can_be_tested(dist: Path) -> None:
    """The sdist holds packages, tests, licence and changelog, and no leftovers of this machine."""
    with tarfile.open(next(dist.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "tests/conftest.py"}
    wanted |= {".ci/requirements/dev.txt"}
    assert wanted <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", ".git/"))]
