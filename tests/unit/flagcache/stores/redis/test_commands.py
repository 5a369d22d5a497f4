"""Commands as they are sent."""

from __future__ import annotations

from typing import cast

import pytest
from redis.connection import Connection

from flagcache.stores.redis.commands import _packed  # pyright: ignore[reportPrivateUsage]
from flagcache.stores.redis.pools import Word

COMMANDS: dict[str, tuple[Word, ...]] = {
    "a poll": ("EVALSHA", "a" * 40, 2, "flagcache:1-plain:{x}:lease", "", -1, 0, 2**53, "5:stamp:", "a\r\nb"),
    "one word": ("PING",),
    "bytes": ("EVALSHA", "a" * 40, 0, b"\xff\r\n"),
    "no ASCII": ("EVALSHA", "a" * 40, 1, "clé", "ü"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_packed_as_redis_py_packs_it(name: str) -> None:
    """What is no plain ASCII is left to redis-py."""
    command = COMMANDS[name]
    theirs = cast("list[bytes]", Connection().pack_command(*command))  # type: ignore[no-untyped-call]
    assert _packed(command) == (b"".join(theirs) if name in ("a poll", "one word") else None)
