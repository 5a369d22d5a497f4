"""`flagcache clear` of a fleet with a key, while another process raises the epoch."""

from __future__ import annotations

from pathlib import Path

import pytest
from typing_extensions import override

from flagcache.cli.store import run_clear
from flagcache.encoding.codec import Codec
from flagcache.encoding.protection import protection_of
from flagcache.encoding.stamps import Stamps
from flagcache.errors import StoreError
from flagcache.stores.base import Store
from flagcache.stores.memory import MemoryStore


class ContestedStore(MemoryStore):
    """A store whose epoch another process raises right before each of the first clears."""

    def __init__(self, others: int) -> None:
        super().__init__()
        self.others = others
        self.stamp = ""

    @override
    def clear(self, stamp: str = "") -> int:
        if self.others:
            self.others -= 1
            super().clear()
        self.stamp = stamp
        return super().clear(stamp)


class KeyedLocation:
    """The store's place, with a key."""

    namespace, protection = "shop", "signed"
    file: Path | None = None

    def __init__(self, store: Store) -> None:
        self._store = store
        self.stamps: Stamps | None = Codec("shop", protection_of(b"k" * 32, None), limit=1000).stamps

    def open(self) -> Store:
        """As `StoreLocation.open`."""
        return self._store


def test_a_clear_is_signed_for_the_epoch_that_it_made() -> None:
    """If another process raises the epoch first, the next attempt signs the epoch after that."""
    store = ContestedStore(others=2)
    place = KeyedLocation(store)
    assert run_clear(place, sure=True) == 0
    assert place.stamps is not None
    assert store.stamp == place.stamps.of_epoch(store.inspect().epoch)


def test_a_clear_that_never_signs_its_epoch_fails() -> None:
    """After 5 attempts the command fails, because workers undo a clear with the stamp of another epoch."""
    with pytest.raises(StoreError, match="another process raised the epoch during each of 5 attempts"):
        run_clear(KeyedLocation(ContestedStore(others=99)), sure=True)
