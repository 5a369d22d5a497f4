"""Docs and code agree: settings and defaults, public names, links, and code blocks that compile."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import flagcache
from flagcache import events
from flagcache.settings import Options, Settings
from flagcache.status import Role, Serving, State, Status

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").glob("*.md"))]
_ROW = re.compile(r"^\| (`.*?`) \| (.*?) \| .* \|$", re.MULTILINE)


def _documented_settings(page: str) -> dict[str, str]:
    """Return names and defaults from a page."""
    return {
        name: default
        for names, default in _ROW.findall((ROOT / page).read_text())
        for name in re.findall(r"`(\w+)`", names)
    }


def test_the_docs_tell_every_setting() -> None:
    """The page lists the settings that a cache takes, and no others."""
    settings = {field.name for field in dataclasses.fields(Settings)} | set(Options.__annotations__)
    assert set(_documented_settings("docs/settings.md")) == settings | {"fallback", "on_event"}


def test_the_docs_tell_the_defaults() -> None:
    """Plain numbers and texts equal the code's defaults; README has the same defaults."""
    documented = _documented_settings("docs/settings.md")
    plain = {
        name: documented[name].strip("`").strip('"')
        for name in documented
        if re.fullmatch(r'[\d.]+|`"\w+"`', documented[name])
    }
    actual = {name: str(getattr(Settings(), name)).removesuffix(".0") for name in plain if name != "fallback"}
    assert {name: plain[name] for name in actual} == actual
    assert len(actual) >= 6
    readme = _documented_settings("README.md")
    shared = set(readme) & set(documented)
    assert len(shared) >= 5
    assert {name: readme[name] for name in shared} == {name: documented[name] for name in shared}


def test_the_docs_tell_every_field_of_the_status() -> None:
    """The page lists every field, and each value of those that have few."""
    page = (ROOT / "docs/status.md").read_text().partition("## Events")[0]
    documented = set(re.findall(r"`(\w+)`", page))
    values = {value.value for kind in (Role, Serving, State) for value in kind}
    assert documented >= set(Status._fields) | values


def test_the_docs_tell_every_event() -> None:
    """The page lists all events and no others, each failure next to its end."""
    documented = set(re.findall(r"`([A-Z]\w+)`", (ROOT / "docs/status.md").read_text().partition("## Events")[2]))
    kinds = {name for name in events.__all__ if name not in ("Event", "Events", "Recovery")}
    assert documented == kinds | {"DefinitionsMalformed", "KeysMissing", "KeysRestored"}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Each link within the project names an existing file."""
    folder = (ROOT / page).parent
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / page).read_text())
    missing = [link for link in links if not (folder / link).exists()]
    assert not missing


def test_every_page_is_linked() -> None:
    """Every page is linked from another page."""
    linked = {
        (ROOT / page).parent.joinpath(link).resolve().relative_to(ROOT).as_posix()
        for page in PAGES
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / page).read_text())
    }
    assert not set(PAGES) - linked - {"README.md"}


def _python_blocks() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
            yield page, block


def test_code_in_the_docs_compiles_and_names_what_exists() -> None:
    """Each name that is imported from flagcache's front door is one of its public names."""
    blocks = list(_python_blocks())
    assert blocks
    for page, block in blocks:
        tree = ast.parse(block, page)
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "flagcache"]
        names = {alias.name for node in imports for alias in node.names}
        assert names <= set(flagcache.__all__), (page, names - set(flagcache.__all__))
