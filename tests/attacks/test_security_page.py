"""Each line of the tables in `docs/security.md` names a test, and each test of an attack is named there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

POWERS = (
    "Read the store",
    "Write the store",
    "Publish only",
    "Another tenant of the same Redis",
    "Another local user",
    "A network attacker",
)


def tables() -> dict[str, list[str]]:
    """The lines of each table of what a power can do, without its head, by power."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    section = page.partition("## Who can do what\n")[2].partition("\n## ")[0]
    found: dict[str, list[str]] = {}
    for part in section.split("\n### ")[1:]:
        title, _, text = part.partition("\n")
        lines = [line for line in text.splitlines() if line.startswith("|")]
        if lines:
            assert lines[1].startswith("|---"), title
            found[title] = lines[2:]
    return found


def rows() -> list[str]:
    """The lines of all these tables."""
    return [line for lines in tables().values() for line in lines]


def test_each_line_names_a_test_that_exists() -> None:
    """The last column of each line has the names of tests, and each of these tests exists."""
    defined: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        defined.update(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    lines = rows()
    assert len(lines) > 5
    for line in lines:
        named = re.findall(r"`(test_\w+)`", line.rstrip(" |").rpartition("|")[2])
        assert named, f"no test is named: {line}"
        assert set(named) <= defined, f"no such test: {set(named) - defined}"


@pytest.mark.parametrize("power", POWERS)
def test_each_power_has_its_table(power: str) -> None:
    """Each line has an answer for a plain, a signed and a sealed store; a table has four lines or more."""
    lines = tables()[power]
    assert len(lines) >= 4
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert len(cells) == 5, line
        assert all(cells), line


def test_every_attack_stands_on_the_page() -> None:
    """Each test of the other modules in this folder is named in a table."""
    tried: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        if path.name == Path(__file__).name:
            continue
        text = path.read_text(encoding="utf-8")
        tried.update(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
    assert len(tried) > 10
    text = "\n".join(rows())
    assert not {name for name in tried if f"`{name}`" not in text}
