"""One store of this process: how to open it, its circuit breaker, and what it refuses."""

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
        """Its key in `Knowledge.views`."""
        self.store: Store | None = None
        self.prover: ProvesWrites | None = None
        """The same, if its replies prove that it writes."""
        self.sender: SendsNotices | None = None
        """The same, if it sends notices, for which it may lack the right."""
        self.breaker = CircuitBreaker()
        self.refuses = ""
        """Why it refused to write (a kind of `StoreError`), until a write succeeds; empty if each of its replies proves
        that it writes (`ProvesWrites`)."""
        self.held = ""
        """The newest version that the store had, as far as this process knows."""
        self.missing = False
        """It was logged that this machine has no place for it."""
        self.well_since: float | None = None
        """Own clock at its first reply after the latest refusal."""

    @property
    def sound(self) -> bool:
        """Whether its last call succeeded and it refuses no writes."""
        return not (self.breaker.failures or self.refuses or self.well_since is not None)
