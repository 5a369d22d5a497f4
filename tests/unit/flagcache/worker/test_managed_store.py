"""When a store can be relied on: its answer changes nothing then."""

from __future__ import annotations

from flagcache.core.circuit_breaker import CircuitBreaker
from flagcache.stores.memory import MemoryStore
from flagcache.stores.spec import StoreSpec
from flagcache.worker.managed_store import ManagedStore


def _managed() -> ManagedStore:
    return ManagedStore(StoreSpec("memory://a", MemoryStore))


def test_a_store_that_was_never_asked_is_sound() -> None:
    """Nothing is known against it, and it is not open yet."""
    managed = _managed()
    assert managed.sound
    assert (managed.store, managed.store_name) == (None, "memory://a")


def test_a_failed_call_makes_it_unsound() -> None:
    """Its breaker is open until an answer closes it."""
    managed = _managed()
    managed.breaker = managed.breaker.failed(0.0, longest=1.0, jitter=0.5)
    assert not managed.sound
    managed.breaker = CircuitBreaker()
    assert managed.sound


def test_a_store_that_refused_to_write_is_doubted() -> None:
    """It may answer what only reads; so it is doubted until a write is known to succeed, or it was well for long."""
    managed = _managed()
    managed.refuses = "full"
    assert not managed.sound
    managed.refuses, managed.well_since = "", 7.0
    assert not managed.sound
