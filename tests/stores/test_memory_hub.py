"""Stores in memory by name: bounded, and deleted on request."""

from __future__ import annotations

import gc
import weakref

from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache import MemoryFlagDefinitionCache, from_url
from flagcache.stores.memory import MemoryHub
from flagcache_posthog import FlagDefinitionCache

DATA = FlagDefinitionCacheData(flags=[{"key": "one"}], group_type_mapping={}, cohorts={})


def bring(cache: FlagDefinitionCache) -> None:
    """Fetch, as the SDK does."""
    assert cache.should_fetch_flag_definitions()
    cache.on_flag_definitions_received(DATA)


def finds(namespace: str) -> bool:
    """Whether a new cache finds definitions there."""
    cache = MemoryFlagDefinitionCache(namespace)
    due = cache.should_fetch_flag_definitions()
    ready = cache.ready()
    cache.shutdown()
    assert due is not ready
    return ready


def test_names_that_nobody_uses_are_not_kept_without_end() -> None:
    """A run of tests makes a new one for each; what is in use stays the same store, however many come after it."""
    hub = MemoryHub()
    used, unused = hub.store("used"), weakref.ref(hub.store("unused"))
    for number in range(300):
        hub.store(f"name-{number}")
    gc.collect()
    assert unused() is None
    assert hub.store("used") is used
    latest = weakref.ref(hub.store("name-299"))
    gc.collect()
    assert latest() is hub.store("name-299")


def test_a_reset_forgets_one_namespace_or_all(namespace: str) -> None:
    """Later caches start with nothing; one that is in use keeps its store."""
    first, second = MemoryFlagDefinitionCache(namespace), from_url("memory://", f"{namespace}:2")
    for cache in (first, second):
        bring(cache)
    assert finds(namespace)
    MemoryFlagDefinitionCache.reset(namespace)
    assert not finds(namespace)
    assert finds(f"{namespace}:2")
    MemoryFlagDefinitionCache.reset()
    assert not finds(f"{namespace}:2")
    assert first.ready()
    assert first.get_flag_definitions() == DATA
