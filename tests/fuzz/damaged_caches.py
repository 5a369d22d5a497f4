"""Two caches on one store that an attacker damages, and what they must keep doing.

They are driven as the SDK drives a provider, without a client: then an input takes milliseconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache.encoding.payload import digest
from flagcache.settings import Options
from flagcache_posthog import FlagDefinitionCache
from flagcache_posthog.testing import make_definitions

__all__ = ["QUICK", "DamagedFleet", "InputCount", "damaged_fleet"]

QUICK: Options = {
    "cold_start_wait": 0.05,
    "challenge_after": 0.05,
    "lease": 0.1,
    "store_timeout": 2.0,
    "on_quota_limited": "keep",  # a forged 402 would rightly empty the flags otherwise, see docs/security.md
}
INTERVAL = 0.01
"""Seconds between two fetches: the shortest there is."""

_HEALED_WITHIN = 3.0


@dataclass(slots=True)
class InputCount:
    """How many inputs were tried."""

    inputs: int = 0


class _CaughtExceptions(logging.Handler):
    """Collects what the outermost guard caught: each is a bug, although it did not reach the SDK."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.caught: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.caught.append(self.format(record))


@dataclass(slots=True)
class DamagedFleet:
    """A fleet of two, and the truth."""

    caches: tuple[FlagDefinitionCache, ...]
    version: Callable[[], str]
    """What the store says that it holds."""
    named: Callable[[str], str]
    """How a store names a content of this digest."""
    bugs: _CaughtExceptions
    revision: int = 0
    truths: list[FlagDefinitionCacheData] = field(default_factory=list[FlagDefinitionCacheData])

    def change(self) -> None:
        """PostHog serves other definitions from now on."""
        self.revision += 1
        self.truths.append(cast("FlagDefinitionCacheData", make_definitions(2, revision=self.revision)))

    def poll(self) -> list[FlagDefinitionCacheData | None]:
        """One poll of each, as the SDK does it; a fetch brings the truth."""
        got: list[FlagDefinitionCacheData | None] = []
        for cache in self.caches:
            if cache.should_fetch_flag_definitions():
                cache.on_flag_definitions_received(self.truths[-1])
            got.append(cache.get_flag_definitions())
            seen = cache.status()
            assert (seen.leader + seen.writer + seen.version).isprintable(), f"it shows {seen}"
        assert not self.bugs.caught, self.bugs.caught[0]
        return got

    def survive(self, allowed: Callable[[FlagDefinitionCacheData], bool] = lambda _got: False) -> None:
        """Just after the damage: nothing is raised, no client is without flags, and no client has any but true ones.

        Args:
            allowed: which others will do.
        """
        for _ in range(3):
            for got in self.poll():
                assert got is not None, "it would fetch, with flags in memory"
                assert got in self.truths[-2:] or allowed(got), f"it was given {str(got)[:300]}"

    def heal(self) -> None:
        """After the next change at PostHog all hold it, and so does the store."""
        self.change()
        truth, deadline = self.truths[-1], time.monotonic() + _HEALED_WITHIN
        wanted = self.named(digest(cast("dict[str, object]", truth)))
        while self.poll() != [truth] * len(self.caches) or self.version() != wanted:
            assert time.monotonic() < deadline, "it did not heal"
            time.sleep(INTERVAL / 4)


@contextmanager
def damaged_fleet(
    make: Callable[[Options], FlagDefinitionCache], version: Callable[[], str], named: Callable[[str], str]
) -> Generator[DamagedFleet]:
    """Two caches that hold the first truth, as their store does."""
    bugs, log = _CaughtExceptions(), logging.getLogger("flagcache.runtime.guard")
    events = logging.getLogger("flagcache")
    level, events.level = events.level, logging.CRITICAL  # thousands of refusals are what is wanted here
    log.setLevel(logging.ERROR)
    log.addHandler(bugs)
    both = DamagedFleet((make(QUICK), make(QUICK)), version, named, bugs)
    try:
        both.heal()
        yield both
    finally:
        for cache in both.caches:
            cache.shutdown()
        log.removeHandler(bugs)
        log.setLevel(logging.NOTSET)
        events.level = level
