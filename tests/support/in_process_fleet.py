"""A fleet inside one process: several workers on one store in memory, with clocks that stand still until moved.

Each `Process` does what the vendor's SDK does with a provider, and keeps what the SDK would hold; each reaches the
shared store through its own `Link`, which can be cut. `Upstream` is the vendor, with its entity tag and its failures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import TypeVar, cast

from flagcache.core.knowledge import Knowledge
from flagcache.encoding.payload import digest
from flagcache.encoding.protection import PLAIN, Protection
from flagcache.errors import EnvelopeError, StoreError
from flagcache.events import Event, Events
from flagcache.settings import Settings
from flagcache.stores.base import Ask, Envelope, Grant, Meta, Published, Replacing, Reply, Scope, Snapshot, Store
from flagcache.stores.memory import MemoryStore
from flagcache.stores.spec import StoreSpec
from flagcache.vendor import Definitions, Difference
from flagcache.worker.config import CacheConfig
from flagcache.worker.worker import Worker

__all__ = [
    "DISK",
    "FLEET",
    "OWN",
    "Clock",
    "Fleet",
    "Link",
    "ManualVendor",
    "Process",
    "Upstream",
    "content",
    "in_thread",
]

T = TypeVar("T")
E = TypeVar("E", bound=Event)

FLEET, DISK, OWN = "memory://fleet", "disk", "this process alone"
"""The addresses of the shared store, of the machine's file, and of each process's own memory."""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The present."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def content(revision: int, **more: object) -> Definitions:
    """Definitions of this revision."""
    return {"flags": [revision], **more}


class ManualVendor:
    """Definitions are a dict whose `flags` are a list; they may name their project."""

    name = "test"

    def __init__(self, writer: str = "test/1", keys: Collection[str] = ("flags", "more", "project")) -> None:
        self.writer = writer
        self.keys = frozenset(keys)

    def check(self, definitions: object) -> Definitions:
        """Accept that and nothing else."""
        known = cast("Definitions", definitions) if isinstance(definitions, dict) else {}
        if not isinstance(known.get("flags"), list):
            raise EnvelopeError("flags are not a list")
        return known

    def malformed(self, definitions: object) -> tuple[str, ...]:
        """Nothing is."""
        return ()

    def shared(self, definitions: Definitions) -> Definitions:
        """These."""
        return definitions

    def empty(self) -> Definitions:
        """No flags."""
        return {"flags": []}

    def count(self, definitions: Definitions) -> int:
        """How many there are."""
        return len(cast("list[object]", definitions["flags"]))

    def project(self, definitions: Definitions) -> str:
        """What they name."""
        return str(definitions.get("project", ""))

    def difference(self, old: Definitions, new: Definitions) -> Difference:
        """It isn't used."""
        return Difference()


class Upstream:
    """The vendor's API: what it serves, and how often it was asked."""

    def __init__(self) -> None:
        self.serves = content(1)
        self.requests = 0
        self.down = False
        self.clock: Callable[[], float] = lambda: 0.0
        self.served: list[tuple[float, Definitions]] = []
        """When it said what, by this clock: the definitions that it sent or confirmed."""

    def fetch(self, etag: str) -> tuple[str, Definitions | None] | None:
        """Return the entity tag and the definitions; no definitions if the tag is the asker's; None for a failure."""
        self.requests += 1
        if self.down:
            return None
        now = digest(self.serves)
        self.served.append((self.clock(), self.serves))
        return now, (None if now == etag else self.serves)


class Link:
    """One process's connection to a store.

    `cut` makes every call fail before it reaches the store, `lose_answers` afterwards; `fail_at` does so to one of
    them, by its number, afterwards if `fail_late`. `before` is called with the verb first.
    """

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.cut = False
        self.lose_answers = False
        self.fail_at: int | None = None
        self.fail_late = False
        self.replica = False
        """What is broken is not deleted here."""
        self.before: Callable[[str], object] = lambda _verb: None
        self.calls: list[str] = []
        self.asks: list[Ask] = []
        self.opened = 0
        self.closed = 0

    def open(self) -> Store:
        """Open it; the object is always this one."""
        self.opened += 1
        return self

    def poll(self, ask: Ask) -> Reply:
        """As the store."""
        self.asks.append(ask)
        return self._call("poll", lambda: self.store.poll(ask))

    def publish(
        self, me: str, envelope: Envelope, *, fresh: bool, lease: int, replacing: Replacing | None = None
    ) -> Published:
        """As the store."""
        return self._call(
            "publish", lambda: self.store.publish(me, envelope, fresh=fresh, lease=lease, replacing=replacing)
        )

    def confirm(self, me: str, version: str, grant: Grant, *, lease: int, stamp: str = "") -> bool:
        """As the store."""
        return self._call("confirm", lambda: self.store.confirm(me, version, grant, lease=lease, stamp=stamp))

    def discard(self, me: str, version: str) -> bool:
        """As the store."""
        return self._call("discard", lambda: not self.replica and self.store.discard(me, version))

    def report(self, me: str, version: str, interval: int) -> bool:
        """As the store."""
        return self._call("report", lambda: self.store.report(me, version, interval))

    def fail(
        self, me: str, as_of: int, scope: Scope, *, status: int = 0, retry_after: int = 0, stamp: str = ""
    ) -> bool:
        """As the store."""
        return self._call(
            "fail", lambda: self.store.fail(me, as_of, scope, status=status, retry_after=retry_after, stamp=stamp)
        )

    def renew(self, me: str, lease: int) -> bool:
        """As the store."""
        return self._call("renew", lambda: self.store.renew(me, lease))

    def release(self, me: str, *, idle: bool) -> bool:
        """As the store."""
        return self._call("release", lambda: self.store.release(me, idle=idle))

    def inspect(self) -> Snapshot:
        """As the store."""
        return self._call("inspect", self.store.inspect)

    def clear(self, stamp: str = "") -> int:
        """As the store."""
        return self._call("clear", lambda: self.store.clear(stamp))

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    def _call(self, verb: str, call: Callable[[], T]) -> T:
        self.calls.append(verb)
        self.before(verb)
        this_one = len(self.calls) == self.fail_at
        if self.cut or (this_one and not self.fail_late):
            raise StoreError(f"{verb} was cut off")
        answer = call()
        if self.lose_answers or this_one:
            raise StoreError(f"the answer to {verb} was lost")
        return answer


class Process:
    """One worker of the fleet, driven as by the SDK."""

    def __init__(self, fleet: Fleet, know: Knowledge, vendor: ManualVendor | None = None) -> None:
        self.link = Link(fleet.store)
        self.own = MemoryStore(fleet.store_clock)
        self.seen: list[Event] = []
        self.flags: Definitions | None = None
        """What the SDK of this process evaluates with."""
        self.etag = ""
        self._upstream = fleet.upstream
        events = Events()
        events.subscribe(self.seen.append)
        disk = fleet.disk
        fallback = (StoreSpec(DISK, lambda: disk, fallback=True),) if disk is not None else ()
        stores = (StoreSpec(FLEET, self.link.open), *fallback, StoreSpec(OWN, lambda: self.own, pace=2.0))
        self.vendor = vendor or fleet.vendor
        self.config = CacheConfig(
            "fleet", fleet.settings, self.vendor, stores, events, fleet.clock, protection=fleet.protection
        )
        self.worker = Worker(self.config, know)

    def poll(self) -> bool:
        """Do what the SDK does at each poll; return whether it fetched."""
        if self.worker.should_fetch():
            self.fetch()
            return True
        answer = self.worker.definitions()
        if answer:
            self.flags = answer
        elif not (self.flags or {}).get("flags"):
            self.fetch()
            return True
        return False

    def fetch(self) -> None:
        """Fetch, and deliver what is new."""
        answer = self._upstream.fetch(self.etag)
        if answer is not None and answer[1] is not None:
            known = {key: value for key, value in answer[1].items() if key in self.vendor.keys}
            self.etag, self.flags = answer[0], known
            self.worker.received(known)

    def events(self, kind: type[E]) -> list[E]:
        """Return its events of this kind."""
        return [event for event in self.seen if isinstance(event, kind)]


class Fleet:
    """Processes that share one store, one vendor and two clocks: the store's wall clock and their own."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings(refresh_interval=30, cold_start_wait=0.05)
        self.clock = Clock()
        self.stepped = 0.0
        """By how many seconds the store's wall clock was stepped since the start."""
        self.protection: Protection = PLAIN
        """The settings of processes that are made from now on."""
        self.disk: MemoryStore | None = None
        """The store that replaces their machine's file; None: they have none."""
        self.vendor = ManualVendor()
        self.upstream = Upstream()
        self.upstream.clock = self.clock
        self.store = MemoryStore(self.store_clock)

    def store_clock(self) -> int:
        """The store's wall clock, in milliseconds."""
        return round((self.clock() + self.stepped) * 1000)

    def process(self, know: Knowledge | None = None, vendor: ManualVendor | None = None) -> Process:
        """Start one more."""
        return Process(self, know or Knowledge(), vendor)

    def next_interval(self) -> None:
        """Let one refresh interval pass."""
        self.clock.advance(self.settings.refresh_interval)

    def plant(self, payload: bytes, *, version: str = "planted", age: float = 0.0, project: str = "") -> Meta:
        """Store this as another worker."""
        at = self.store_clock() - round(age * 1000)
        meta = Meta(version, 0, at, changed_at=at, confirmed_at=at, project=project)
        assert self.store.publish("another", Envelope(meta, payload), fresh=False, lease=1) is Published.STORED
        return meta

    def occupy(self) -> None:
        """Let another worker lead for an hour, which fetches and never delivers."""
        hour = 3_600_000
        reply = self.store.poll(Ask("another", interval=hour, lease=hour, cold_lease=hour, challenge=hour))
        assert reply.grant is not None

    @property
    def stored(self) -> Meta | None:
        """What the store holds."""
        return self.store.inspect().meta


def in_thread(work: Callable[[], T]) -> T:
    """Run something on a new thread and return its result."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(10)
    assert results, "the thread did not end, or raised"
    return results[0]
