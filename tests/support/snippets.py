"""Code blocks of the docs, which tests run unchanged."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["html_snippet", "snippet"]

_ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippet(page: str, name: str) -> str:
    """Return the one code block of a page whose first line is a comment with this file name.

    Args:
        page: path from the project's root, `docs/gunicorn.md` say.
        name: as in `# gunicorn.conf.py` or `# app.py: how it is loaded`.
    """
    return _block(page, f"# {name}")


def html_snippet(page: str, name: str) -> str:
    """As `snippet`, for a template, whose first line is a comment of HTML."""
    return _block(page, f"<!-- {name}")


def _block(page: str, first: str) -> str:
    blocks: list[str] = _BLOCK.findall((_ROOT / page).read_text())
    found = [block for block in blocks if re.match(rf"{re.escape(first)}\b", block)]
    assert len(found) == 1, f"{page} has {len(found)} blocks that begin with '{first}'"
    return found[0]
