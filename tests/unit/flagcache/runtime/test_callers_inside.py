"""Whether a thread is inside a call of a cache."""

from __future__ import annotations

import threading

import pytest

from flagcache.runtime.callers import Inside


def test_a_thread_is_inside_for_the_block() -> None:
    """Blocks nest, and leaving the inner one does not end the outer one."""
    inside, seen = Inside(), list[bool]()

    def look() -> None:
        seen.append(inside.now)

    look()
    with inside.entered():
        with inside.entered():
            look()
        look()
        with inside.left():
            look()
        look()
    look()
    assert seen == [False, True, True, False, True, False]


def test_an_exception_ends_the_block() -> None:
    """The next call of the thread is made from outside again."""
    inside = Inside()
    with pytest.raises(ValueError, match="in the call"), inside.entered():
        raise ValueError("in the call")
    assert not inside.now


def test_each_thread_and_each_cache_has_its_own() -> None:
    """Another thread's call comes from outside, and so does a call of another cache."""
    inside, other, seen = Inside(), Inside(), list[bool]()
    with inside.entered():
        thread = threading.Thread(target=lambda: seen.append(inside.now))
        thread.start()
        thread.join(10)
        assert not other.now
    assert seen == [False]
