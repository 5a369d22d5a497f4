"""The fallback file: the first definitions are stored at once, later ones after the clients have them."""

from __future__ import annotations

import math

import pytest

from flagcache.core.knowledge import Held, Knowledge
from flagcache.encoding.codec import Codec
from flagcache.encoding.payload import digest
from flagcache.encoding.protection import PLAIN, Protection, Signed
from flagcache.events import Events
from flagcache.stores.base import Envelope, Meta
from flagcache.stores.memory import MemoryStore
from flagcache.stores.spec import StoreSpec
from flagcache.vendor import Definitions
from flagcache.worker.config import CacheConfig
from flagcache.worker.last_known_good import LastKnownGood
from flagcache.worker.publish import Publisher
from flagcache.worker.state import ProcessState
from flagcache.worker.trust import Trust
from tests.support.in_process_fleet import FLEET, OWN, Fleet, Link, content


class FallbackDisk:
    """A fallback store in memory, and what fills it."""

    def __init__(self, fleet: Fleet, protection: Protection = PLAIN, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore(lambda: int(fleet.clock() * 1000))
        self.clock = fleet.clock
        self.link = Link(self.store)
        stores = (
            StoreSpec(FLEET, lambda: fleet.store),
            StoreSpec("disk", self.link.open, fallback=True),
            StoreSpec(OWN, MemoryStore),
        )
        config = CacheConfig("team", fleet.settings, fleet.vendor, stores, Events(), fleet.clock, protection=protection)
        self.config = config
        self.state = ProcessState(config, Knowledge())
        self.fallback = LastKnownGood(config, self.state, Publisher(config, self.state), Trust(config, self.state))

    def hold(self, revision: int) -> str:
        """Hold these definitions, just fetched by another process, from now on; returns their version."""
        self.clock.advance(10.0)
        definitions = content(revision)
        version = digest(definitions)
        at = 1_000 * revision
        meta = Meta(version, epoch=0, as_of=at, changed_at=at, confirmed_at=at)
        self.state.adopt(Held(meta, definitions, FLEET, self.clock()), fetched=False)
        return version

    @property
    def version(self) -> str:
        """What it keeps."""
        meta = self.store.inspect().meta
        return meta.version if meta else ""


@pytest.fixture
def disk(fleet: Fleet) -> FallbackDisk:
    """An empty fallback store."""
    return FallbackDisk(fleet)


def test_the_first_are_kept_at_once(disk: FallbackDisk) -> None:
    """A process that may end or fork at any moment has stored its first definitions before any thread continues."""
    version = disk.hold(1)
    disk.fallback.offer_soon(later=True)
    assert disk.version == version
    assert disk.fallback.due_at == math.inf


def test_what_replaces_them_is_due_after_the_clients_have_it(disk: FallbackDisk) -> None:
    """No client waits for the disk when a change arrives; the listener stores it within two seconds."""
    before = disk.hold(1)
    disk.fallback.offer_soon(later=True)
    after = disk.hold(2)
    disk.fallback.offer_soon(later=True)
    assert disk.version == before
    due = disk.fallback.due_at - disk.clock()
    assert 1.0 <= due <= 2.0
    disk.clock.advance(0.5)
    disk.fallback.offer_soon(later=True)
    assert disk.fallback.due_at - disk.clock() == pytest.approx(due - 0.5)  # another poll does not put it off
    disk.fallback.save_due()
    assert disk.version == after
    assert disk.fallback.due_at == math.inf


def test_without_a_listener_it_is_kept_at_once(disk: FallbackDisk) -> None:
    """If no listener would store them later, the poll that brings definitions stores them."""
    disk.hold(1)
    disk.fallback.offer_soon(later=False)
    version = disk.hold(2)
    disk.fallback.offer_soon(later=False)
    assert disk.version == version


def test_nothing_is_due_without_a_change(disk: FallbackDisk) -> None:
    """The unchanged poll leaves the disk alone."""
    disk.hold(1)
    disk.fallback.offer_soon(later=True)
    disk.fallback.offer_soon(later=True)
    assert disk.fallback.due_at == math.inf


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions that were encoded."""
    versions: list[str] = []
    write = Codec.write

    def count(self: Codec, definitions: Definitions, meta: Meta) -> Envelope:
        versions.append(meta.version)
        return write(self, definitions, meta)

    monkeypatch.setattr(Codec, "write", count)
    return versions


def test_the_bytes_at_hand_are_written_and_then_dropped(disk: FallbackDisk, written: list[str]) -> None:
    """What was encoded for the fleet's store serves the fallback store too, and is not kept in memory after that."""
    version = disk.hold(1)
    held = disk.state.know.held
    assert held is not None
    first = disk.state.encoded.envelope(held, held.meta)
    disk.fallback.save()
    assert disk.version == version
    assert written == [version]
    again = disk.state.encoded.envelope(held, held.meta)
    assert written == [version, version]
    assert first == again


def test_ages_alone_are_confirmed(disk: FallbackDisk, written: list[str]) -> None:
    """If the same content is much younger, the fallback store gets its times and nothing else."""
    version = disk.hold(1)
    disk.fallback.save()
    before, held = disk.store.inspect().meta, disk.state.know.held
    assert before is not None
    assert held is not None
    disk.clock.advance(2 * disk.config.stale_after)
    later = held.meta.as_of + round(2_000 * disk.config.stale_after)
    meta = held.meta._replace(as_of=later, confirmed_at=later)
    disk.state.adopt(held._replace(meta=meta, born=disk.clock()), fetched=False)
    disk.fallback.save()
    after = disk.store.inspect().meta
    assert after is not None
    assert after.confirmed_at - before.confirmed_at == pytest.approx(2_000 * disk.config.stale_after, abs=20)
    assert after == before._replace(as_of=after.as_of, confirmed_at=after.confirmed_at)
    assert written == [version]


def test_what_an_old_key_protects_is_protected_anew(fleet: Fleet) -> None:
    """When keys are rotated, the fallback store does not wait for other definitions to be readable with the new key."""
    old, new = "o" * 16, "n" * 16
    before = FallbackDisk(fleet, Signed(old))
    before.hold(1)
    before.fallback.save()
    after = FallbackDisk(fleet, Signed([new, old]), before.store)
    version = after.hold(1)
    after.fallback.save()
    alone = FallbackDisk(fleet, Signed(new), before.store)
    assert alone.fallback.load()
    held = alone.state.know.held
    assert held is not None
    assert held.meta.version == version


def test_bytes_under_an_old_key_are_not_passed_on(fleet: Fleet, written: list[str]) -> None:
    """What the fleet's store holds under a key on its way out is encoded again for the fallback store."""
    disk = FallbackDisk(fleet, Signed(["n" * 16, "o" * 16]))
    version = disk.hold(1)
    held = disk.state.know.held
    assert held is not None
    before = FallbackDisk(fleet, Signed("o" * 16)).config.codec.write(held.definitions, held.meta)
    disk.state.encoded.received(version, before.payload)
    disk.fallback.save()
    assert written == [version, version]


def test_what_could_not_be_kept_is_due_again(disk: FallbackDisk) -> None:
    """A disk that does not answer is asked again, as soon as its breaker lets it."""
    disk.link.cut = True
    version = disk.hold(1)
    disk.fallback.offer_soon(later=True)
    assert 1.0 <= disk.fallback.due_at - disk.clock() < math.inf
    disk.link.cut = False
    disk.clock.advance(disk.fallback.due_at - disk.clock())
    disk.fallback.save()
    assert disk.version == version
    assert disk.fallback.due_at == math.inf
