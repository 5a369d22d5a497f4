"""Which texts in a store a worker may have written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flagcache.stores.rules.fields import (
    LONGEST_STAMP,
    LONGEST_TAG,
    LONGEST_TEXT,
    LONGEST_VERSION,
    is_stamp,
    is_tag,
    is_text,
    is_version,
)

Check = Callable[[str], bool]
BOUNDS = [(is_tag, LONGEST_TAG), (is_text, LONGEST_TEXT)]


@pytest.mark.parametrize(("check", "longest"), BOUNDS)
def test_a_text_has_a_longest_length(check: Check, longest: int) -> None:
    """The length of a text counts in bytes of UTF-8; an empty one is a text too."""
    assert check("")
    assert check("x" * longest)
    assert not check("x" * (longest + 1))
    assert check("é" * (longest // 2))
    assert not check("é" * (longest // 2 + 1))
    assert check("\ud800")


@pytest.mark.parametrize(("check", "_longest"), BOUNDS)
@pytest.mark.parametrize("control", ["\x00", "\n", "\x1f", "\x7f"])
def test_a_text_has_no_control_character(check: Check, _longest: int, control: str) -> None:
    """A text with a control character is absent, because no worker writes one."""
    assert not check(f"a{control}")
    assert check("a b\u0085")


def test_a_stamp_can_be_an_argument_of_a_poll() -> None:
    """A stamp is printing ASCII of limited length, without the colons that separate the arguments."""
    for text in ("", "x" * LONGEST_STAMP, "aZ09-_=+/ ~"):
        assert is_stamp(text)
    for text in ("x" * (LONGEST_STAMP + 1), "a:b", "é", "\x00", "a\n", "\x7f"):
        assert not is_stamp(text)


def test_a_version_names_a_content() -> None:
    """A version has letters, digits, dots and dashes, at least one."""
    assert is_version("0123456789abcdef")
    assert is_version("Z-1._")
    assert is_version("x" * LONGEST_VERSION)
    for text in ("", "x" * (LONGEST_VERSION + 1), "a b", "é", "a\n", "a/b"):
        assert not is_version(text)
