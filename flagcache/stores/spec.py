"""How a process opens one of its stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flagcache.stores.base import Store

__all__ = ["StoreSpec"]


class StoreSpec(NamedTuple):
    """How a process opens one of its stores, and what people call it."""

    address: str
    """No user name, no password."""
    open: Callable[[], Store]
    """Makes the store, in each process and again after `Tiers.close`; connects to nothing."""
    pace: float = 1.0
    """How many refresh intervals lie between two fetches coordinated by this store."""
    archive: bool = False
    """Keeps what the stores before it give, so that it has something when they are away."""
