"""A Redis whose clock a test steps back and forth; it needs libfaketime."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.servers import MakeRedis, RedisServer, until

__all__ = ["SteppedRedis", "step_redis"]

_LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


@dataclass(frozen=True, slots=True)
class SteppedRedis:
    """A server, and the file that says how far off its clock is."""

    server: RedisServer
    offset: Path

    def step(self, seconds: int) -> None:
        """Set its clock this many seconds off the machine's."""
        admin = self.server.client()

        def off() -> float:
            return admin.time()[0] - time.time()

        self.offset.write_text(f"{seconds:+d}")
        until(lambda: abs(off() - seconds) < 5, what="the step")
        admin.close()


def step_redis(make_redis: MakeRedis, folder: Path, patch: pytest.MonkeyPatch) -> SteppedRedis:
    """Start such a server; without the library the test is skipped.

    Args:
        make_redis: The fixture.
        folder: For the file.
        patch: Sets the environment, only for this server's start.
    """
    if _LIBRARY is None:
        pytest.skip("no libfaketime on this machine (Debian's package faketime)")
    offset = folder / "offset"
    offset.write_text("+0")
    faked = {
        "LD_PRELOAD": str(_LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }
    with patch.context() as only_here:
        for name, value in faked.items():
            only_here.setenv(name, value)
        server = make_redis("redis-6.2")  # the library doesn't work everywhere with the newer ones' allocators
    return SteppedRedis(server, offset)
