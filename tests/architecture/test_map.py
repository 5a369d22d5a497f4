"""The map agrees with the code: the rooms, the pure modules, the folders of tests, the index of pages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.noxfile import PROJECT

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
FIELD = {
    "circuit breaker",
    "compare-and-set",
    "fencing token",
    "heartbeat",
    "leader election",
    "read repair",
    "single-flight",
    "thundering herd",
}
"""The field's words, which the glossary explains."""


def _contract(name: str) -> dict[str, list[str]]:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    found: dict[str, list[str]] = next(contract for contract in contracts if contract["id"] == name)
    return found


def _marked(name: str) -> str:
    """The part of the page between this mark and the next."""
    return ARCHITECTURE.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0]


def _floors(name: str) -> list[str]:
    """The first column of a picture, from the top to the bottom."""
    lines = _marked(name).strip().removeprefix("```text\n").removesuffix("\n```").splitlines()
    return [re.split(r"\s{2,}", line)[0] for line in lines if not line.startswith("-")]


def test_the_picture_shows_the_rooms() -> None:
    """Each line of the picture is a layer of the contract, in the same order; the provider stands above them."""
    assert _floors("rooms") == ["flagcache_posthog", *_contract("rooms")["layers"]]


def test_the_picture_shows_the_inside_of_the_worker() -> None:
    """Each line of the picture is a layer of the contract, in the same order."""
    assert _floors("worker") == _contract("inside-worker")["layers"]


def test_the_page_lists_the_pure_modules() -> None:
    """The list names the modules of the contract, and no others."""
    listed = re.findall(r"`([\w.]+)`", _marked("pure"))
    assert sorted(listed) == sorted(_contract("pure-modules-do-no-io")["source_modules"])


def test_the_glossary_has_the_words_of_the_field() -> None:
    """Each word is explained, and the words are in alphabetical order."""
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", ARCHITECTURE.partition("## Glossary")[2], re.MULTILINE)
    words = rows[1:]  # without the heading; the line below it has no blanks
    assert words == sorted(words)
    assert set(words) >= FIELD


def test_the_theory_of_operation_lists_the_modules_of_core() -> None:
    """The docstring of `flagcache.core` has a line for each of its modules, and for no other."""
    text = ast.get_docstring(ast.parse((ROOT / "flagcache/core/__init__.py").read_text())) or ""
    listed = re.findall(r"^    (\w+) {2,}\w", text.partition("does the I/O outside it.")[2], re.MULTILINE)
    modules = {path.stem for path in (ROOT / "flagcache/core").glob("*.py")} - {"__init__"}
    assert sorted(listed) == sorted(modules)


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "tests/README.md"])
def test_the_map_names_what_exists(page: str) -> None:
    """Each file or folder in code font exists, relative to the project's root or to a folder of the packages."""
    text = (ROOT / page).read_text()
    named = re.findall(r"`((?:[\w.*-]+/)+[\w.*-]*|[\w-]+\.(?:lua|py))`", text)
    bases = [ROOT, ROOT / "flagcache", ROOT / "flagcache/stores", ROOT / "flagcache/stores/redis"]
    assert len(named) >= 5
    missing = [name for name in named if not any([*base.glob(name.rstrip("/"))] for base in bases)]
    assert not missing


def test_every_folder_of_tests_is_explained() -> None:
    """tests/README.md has one row for each folder, and no row without a folder."""
    rows = re.findall(r"^\| `tests/(\w+)` \|", (ROOT / "tests/README.md").read_text(), re.MULTILINE)
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/*.py")}
    assert sorted(rows) == sorted(folders)


def test_every_folder_of_benchmarks_is_explained() -> None:
    """benchmarks/README.md has one row for each folder, and no row without a folder."""
    rows = re.findall(r"^\| \[`(\w+)/`\]", (ROOT / "benchmarks/README.md").read_text(), re.MULTILINE)
    folders = {path.name for path in (ROOT / "benchmarks").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert sorted(rows) == sorted(folders)


def test_the_index_lists_every_page() -> None:
    """docs/README.md links each page of docs/ once or more."""
    linked = set(re.findall(r"\]\(([\w-]+\.md)", (ROOT / "docs/README.md").read_text()))
    assert linked >= {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
