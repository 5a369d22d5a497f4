"""The keys of a cache: what cannot be one is refused, and none is ever shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest

from flagcache import MemoryFlagDefinitionCache
from flagcache.errors import ConfigurationError

A, B = "0123456789abcdef" * 2, "fedcba9876543210" * 2

WRONG: Mapping[str, object] = {
    "empty": "",
    "short": "swordfish-15-by",
    "short bytes": b"swordfish",
    "none": [],
    "a short second one": [A, "swordfish"],
    "a number": 12345678901234567890,
    "a number among them": [A, 12345678901234567890],
    "a mapping": {"swordfish-swordfish": 1},
}


@pytest.mark.parametrize("option", ["signing_key", "encryption_key"])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_a_key_is_refused_unseen(option: str, wrong: object) -> None:
    """A key that is empty, short or something else fails in the constructor; the message names it and shows no key."""
    with pytest.raises(ConfigurationError, match=option) as refused:
        MemoryFlagDefinitionCache("n", **{option: wrong})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert A not in str(refused.value)
    assert "swordfish" not in str(refused.value)
    assert "12345678901234567890" not in str(refused.value)


def test_no_key_is_shown_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the cache nor any of its parts shows a key."""
    caplog.set_level(0)
    cache = MemoryFlagDefinitionCache("n", signing_key=A, encryption_key=[B])
    cache.should_fetch_flag_definitions()
    pending: list[object] = [cache]
    seen: set[int] = set()
    while pending:
        value = pending.pop()
        if id(value) in seen or isinstance(value, type):
            continue
        seen.add(id(value))
        assert A not in repr(value)
        assert B not in repr(value)
        slots = [getattr(value, name, None) for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        ours = type(value).__module__.startswith("flagcache")
        pending += [*vars(value).values(), *slots] if ours and hasattr(value, "__dict__") else slots if ours else []
        pending += cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
    assert A not in caplog.text
    assert B not in caplog.text
    cache.shutdown()
