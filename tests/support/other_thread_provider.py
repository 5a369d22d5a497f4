"""The user's own provider around a cache, which calls the cache on other threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from flagcache_posthog import FlagDefinitionCache

__all__ = ["OtherThreadProvider"]


class OtherThreadProvider:
    """Calls its cache on another thread, one for each thread that calls it, so that no stack shows which client calls.

    Args:
        cache: What is called.
    """

    def __init__(self, cache: FlagDefinitionCache) -> None:
        self.cache = cache
        self._pools: dict[tuple[int, int], ThreadPoolExecutor] = {}

    def __getattr__(self, name: str) -> Callable[..., object]:
        method = cast("Callable[..., object]", getattr(self.cache, name))
        return lambda *args: self._pool().submit(method, *args).result()

    def _pool(self) -> ThreadPoolExecutor:
        """That of the calling thread, in this process."""
        return self._pools.setdefault((os.getpid(), threading.get_ident()), ThreadPoolExecutor(1))
