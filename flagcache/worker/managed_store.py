"""One store of this process: how to open it, and how far it can be relied on."""

from __future__ import annotations

from flagcache.core.circuit_breaker import CircuitBreaker
from flagcache.stores.abilities import ProvesWrites, SendsNotices
from flagcache.stores.base import Store
from flagcache.stores.spec import StoreSpec

__all__ = ["ManagedStore"]


class ManagedStore:
    """One store of this process."""

    def __init__(self, spec: StoreSpec) -> None:
        self.spec = spec
        self.store_name = spec.address
        """The name under which `Knowledge` speaks of this store."""
        self.store: Store | None = None
        self.prover: ProvesWrites | None = None
        """The same, if its answers prove that it writes."""
        self.sender: SendsNotices | None = None
        """The same, if it sends notices, which it may be refused."""
        self.breaker = CircuitBreaker()
        self.refuses = ""
        """Why it refused to write (a kind of `StoreError`), until a write is known to succeed; empty if each of its
        answers proves that (`ProvesWrites`)."""
        self.held = ""
        """The newest version that this process knows it to have held."""
        self.missing = False
        """It was said that this machine has no place for it."""
        self.well_since: float | None = None
        """Own clock at its first answer after the latest refusal."""

    @property
    def sound(self) -> bool:
        """Whether it answered when it was last asked, and is not doubted."""
        return not (self.breaker.failures or self.refuses or self.well_since is not None)
