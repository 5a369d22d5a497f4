"""The rooms have a direction: an import against it breaks `make check`."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AGAINST = {
    "flagcache/stores/memory.py": "from flagcache import coordinator",
    "flagcache/core/schedule.py": "from flagcache.worker import state",
    "flagcache/stores/redis/store.py": "from flagcache.stores import sqlite",
    "flagcache/worker/state.py": "from flagcache.worker import poll",
    "benchmarks/contestants/fleet.py": "from benchmarks.runner import servers",
    "benchmarks/scale/process.py": "from benchmarks.scale import worker",
}
"""An import that goes upwards or across, by the module that must not have it."""


def _lint(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {"PYTHONPATH": f"{checkout}:{checkout / 'providers'}", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", AGAINST)
def test_an_import_against_the_direction_is_refused(module: str, tmp_path: Path) -> None:
    """The contracts are kept as they are, and broken by one more line."""
    pytest.importorskip("importlinter", reason="only where the tools of `make check` are installed")
    for name in ("flagcache", "providers", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    changed = tmp_path / module
    changed.write_text(changed.read_text() + f"\n{AGAINST[module]}\n")
    output = _lint(tmp_path)
    assert output.returncode == 1, output.stdout + output.stderr
    assert "BROKEN" in output.stdout


def _writers(verb: str) -> set[str]:
    """The modules of the worker in which this verb of a store is called."""
    found: set[str] = set()
    for module in (ROOT / "flagcache/worker").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and node.attr == verb
                and ast.unparse(node.value) in {"store", "found[1]"}
            ):
                found.add(module.name)
    return found


@pytest.mark.parametrize("verb", ["publish", "confirm", "fail"])
def test_one_module_of_the_worker_writes_definitions(verb: str) -> None:
    """Only `worker/publish.py` writes to a store what is fetched, repaired or kept on disk."""
    assert _writers(verb) == {"publish.py"}
