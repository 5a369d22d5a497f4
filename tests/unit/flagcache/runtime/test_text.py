"""Text that others wrote, on its way to people."""

from __future__ import annotations

import pytest

from flagcache.runtime.text import printable


@pytest.mark.parametrize("text", ["", "flag-1", "Zürich 東京", "a b"])
def test_what_prints_stays(text: str) -> None:
    """Printing characters of every script stay."""
    assert printable(text) == text


@pytest.mark.parametrize("mark", ["\n", "\r", "\x00", "\x1b", "\u202e", "\u2028", "\ud800", "\x7f"])
def test_what_does_not_print_is_replaced(mark: str) -> None:
    """So that no flag's name can write a line of the log, or turn a terminal's text around."""
    assert printable(f"a{mark}b{mark}") == "a?b?"
