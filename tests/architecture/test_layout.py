"""The layout: typed packages, short modules, one version, sorted public names."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

from flagcache._version import __version__

ROOT = Path(__file__).parents[2]
MODULE_LINES = 300
FUNCTION_LINES = 50


def _modules() -> list[Path]:
    """Every module of the two packages."""
    found = [*(ROOT / "flagcache").rglob("*.py"), *(ROOT / "providers").rglob("*.py")]
    assert found, "no module found: this test looks in the wrong place"
    return sorted(found)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _too_long(path: Path) -> Iterator[str]:
    source = path.read_text()
    if (lines := len(source.splitlines())) > MODULE_LINES:
        yield f"{_name(path)}: {lines} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{_name(path)}:{node.lineno}: {node.name} has {lines} lines"


def _public_names(tree: ast.Module) -> list[str]:
    defined = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    return [node.name for node in defined if not node.name.startswith("_")]


def _exported(tree: ast.Module) -> list[str] | None:
    """The names in `__all__`, or None without one."""
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__" and isinstance(node, ast.Assign | ast.AnnAssign):
            return [str(name) for name in ast.literal_eval(node.value or ast.List([]))]
    return None


def _order(name: str) -> tuple[int, str]:
    """Constants first, then classes, then the rest: the order that ruff writes."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_each_package_tells_that_it_is_typed() -> None:
    """Each top package has a py.typed, so that users' checkers read its annotations."""
    for package in ("flagcache", "providers/flagcache_posthog"):
        assert (ROOT / package / "py.typed").is_file(), package


def test_the_folder_of_providers_is_no_package() -> None:
    """`providers/` contains packages and can't be imported as one."""
    assert not (ROOT / "providers" / "__init__.py").exists()


def test_modules_and_functions_are_short() -> None:
    """No module is longer than 300 lines and no function longer than 50."""
    too_long = [fault for path in _modules() for fault in _too_long(path)]
    assert not too_long, "\n" + "\n".join(too_long)


def test_the_version_is_written_once() -> None:
    """One line of the packages has the version, and the installed metadata agree with it."""
    pattern = re.compile(rf"""["']{re.escape(__version__)}["']""")
    places = [_name(path) for path in _modules() if pattern.search(path.read_text())]
    assert places == ["flagcache/_version.py"]
    assert pattern.search((ROOT / "pyproject.toml").read_text()) is None
    assert importlib.metadata.version("flagcache") == __version__


def test_public_modules_say_what_is_public() -> None:
    """Each public module that defines something public has a sorted `__all__` without private or duplicate names."""
    faults: list[str] = []
    for path in _modules():
        if any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(ROOT).parts):
            continue
        tree = ast.parse(path.read_text())
        exported = _exported(tree)
        if exported is None and _public_names(tree):
            faults.append(f"{_name(path)}: no __all__")
        elif exported is not None and exported != sorted(set(exported), key=_order):
            faults.append(f"{_name(path)}: __all__ is not sorted: {exported}")
    assert not faults, "\n" + "\n".join(faults)
