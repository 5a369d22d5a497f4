"""What is kept for worse days: the first definitions at once, what replaces them after the clients have it."""

from __future__ import annotations

import math

import pytest

from flagcache.core.knowledge import Held, Knowledge
from flagcache.encoding.payload import digest
from flagcache.events import Events
from flagcache.stores.base import Meta
from flagcache.stores.memory import MemoryStore
from flagcache.stores.spec import StoreSpec
from flagcache.worker.config import Plan
from flagcache.worker.last_known_good import Archive
from flagcache.worker.state import Ledger
from tests.worker.processes import FLEET, OWN, Fleet, content


class Disk:
    """An archive on a store in memory, and what fills it."""

    def __init__(self, fleet: Fleet) -> None:
        self.store = MemoryStore(lambda: int(fleet.clock() * 1000))
        self.clock = fleet.clock
        stores = (
            StoreSpec(FLEET, lambda: fleet.store),
            StoreSpec("disk", lambda: self.store, archive=True),
            StoreSpec(OWN, MemoryStore),
        )
        plan = Plan("team", fleet.settings, fleet.vendor, stores, Events(), fleet.clock)
        self.ledger = Ledger(plan, Knowledge())
        self.archive = Archive(plan, self.ledger)

    def hold(self, revision: int) -> str:
        """Hold these definitions, just fetched by another process, from now on; returns their version."""
        self.clock.advance(10.0)
        definitions = content(revision)
        version = digest(definitions)
        at = 1_000 * revision
        meta = Meta(version, epoch=0, as_of=at, changed_at=at, confirmed_at=at)
        self.ledger.take(Held(meta, definitions, FLEET, self.clock()), fetched=False)
        return version

    @property
    def version(self) -> str:
        """What it keeps."""
        meta = self.store.inspect().meta
        return meta.version if meta else ""


@pytest.fixture
def disk(fleet: Fleet) -> Disk:
    """An empty archive."""
    return Disk(fleet)


def test_the_first_are_kept_at_once(disk: Disk) -> None:
    """A process that may end or fork at any moment has kept what it got first before anybody goes on with it."""
    version = disk.hold(1)
    disk.archive.arrived(later=True)
    assert disk.version == version
    assert disk.archive.due_at == math.inf


def test_what_replaces_them_is_due_after_the_clients_have_it(disk: Disk) -> None:
    """Nobody waits for the disk when a change comes; within two seconds the listener is to keep it."""
    before = disk.hold(1)
    disk.archive.arrived(later=True)
    after = disk.hold(2)
    disk.archive.arrived(later=True)
    assert disk.version == before
    due = disk.archive.due_at - disk.clock()
    assert 1.0 <= due <= 2.0
    disk.clock.advance(0.5)
    disk.archive.arrived(later=True)
    assert disk.archive.due_at - disk.clock() == pytest.approx(due - 0.5)  # another poll does not put it off
    disk.archive.settle()
    assert disk.version == after
    assert disk.archive.due_at == math.inf


def test_without_a_listener_it_is_kept_at_once(disk: Disk) -> None:
    """Where nobody would come back to it, the poll that brings definitions keeps them."""
    disk.hold(1)
    disk.archive.arrived(later=False)
    version = disk.hold(2)
    disk.archive.arrived(later=False)
    assert disk.version == version


def test_nothing_is_due_without_a_change(disk: Disk) -> None:
    """The unchanged poll leaves the disk alone."""
    disk.hold(1)
    disk.archive.arrived(later=True)
    disk.archive.arrived(later=True)
    assert disk.archive.due_at == math.inf
