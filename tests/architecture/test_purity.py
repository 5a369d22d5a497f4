"""Pure modules do no I/O, and imports load nothing that isn't needed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN_IMPORTS = {"asyncio", "io", "os", "pathlib", "random", "secrets", "socket", "sqlite3", "threading", "time"}
FORBIDDEN_CALLS = {"input", "open", "print"}


def _pure_modules() -> list[str]:
    """The modules that pyproject.toml's import contract calls pure; of a room, all that are in it."""
    contract = (ROOT / "pyproject.toml").read_text().partition('id = "pure-modules-do-no-io"')[2]
    listed = re.search(r"source_modules = \[(.*?)\]", contract, re.DOTALL)
    assert listed is not None, "pyproject.toml lists no pure modules"
    return [module for name in re.findall(r'"([\w.]+)"', listed[1]) for module in _inside(name)]


def _inside(name: str) -> list[str]:
    room = ROOT / name.replace(".", "/")
    if not room.is_dir():
        return [name]
    return sorted(f"{name}.{path.stem}" for path in room.glob("*.py") if path.stem != "__init__")


def _loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after `statement`."""
    script = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def _impurities(tree: ast.Module) -> list[str]:
    """The imports and calls in `tree` that a pure module must not have."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.partition(".")[0] in FORBIDDEN_IMPORTS]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in FORBIDDEN_IMPORTS:
            found.append(str(node.module))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.append(f"{node.func.id}()")
    return found


@pytest.mark.parametrize("module", _pure_modules())
def test_a_pure_module_reads_no_clock_and_does_no_io(module: str) -> None:
    """A module that decides takes clock values as arguments, and opens, sends, draws and starts nothing."""
    path = ROOT / (module.replace(".", "/") + ".py")
    assert _impurities(ast.parse(path.read_text())) == []


def test_impurities_are_seen() -> None:
    """The test above can fail."""
    source = "import time\nfrom threading import Lock\nopen('x')\n"
    assert _impurities(ast.parse(source)) == ["time", "threading", "open()"]


def test_the_front_door_loads_neither_vendor_nor_client() -> None:
    """`import flagcache` alone loads no SDK, no redis and no provider: they come with the name that needs them."""
    assert _loaded_by("import flagcache") & {"flagcache_posthog", "posthog", "redis", "requests", "sqlite3"} == set()


def test_pure_modules_load_no_client() -> None:
    """Modules that decide can be imported without any client library."""
    loaded = _loaded_by("import " + ", ".join(_pure_modules()))
    assert loaded & {"flagcache_posthog", "posthog", "redis", "requests", "sqlite3"} == set()
