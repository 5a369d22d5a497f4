"""`docs/security.md` promises nothing that no test shows."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rows() -> list[str]:
    """The lines of the table that says who can do what."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    section = page.partition("## Who can do what\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def test_each_line_names_a_test_that_exists() -> None:
    """The last column of each line has the names of tests, and each of them is one of ours."""
    defined: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        defined.update(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    lines = rows()
    assert len(lines) > 5
    for line in lines:
        named = re.findall(r"`(test_\w+)`", line.rstrip(" |").rpartition("|")[2])
        assert named, f"no test is named: {line}"
        assert set(named) <= defined, f"no such test: {set(named) - defined}"
