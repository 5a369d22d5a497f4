"""The processes of a fleet: each runs the real `flagcache.worker.worker.Worker` for one client."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from flagcache.clients import Clients
from flagcache.core.knowledge import Held, Knowledge
from flagcache.events import Event, Events, LateFetchRefused
from flagcache.stores.base import REFRESHER, Store
from flagcache.stores.spec import StoreSpec
from flagcache.worker.config import CacheConfig
from flagcache.worker.worker import Worker
from tests.simulation.connections import Link
from tests.simulation.oracle import LastHeld
from tests.simulation.posthog import Response, vendor, version_of
from tests.simulation.scheduler import Owner, current_task
from tests.simulation.sdk import Attached, Sdk
from tests.simulation.stores import Network, SharedStore
from tests.simulation.world import NAMESPACE, ProcessKind, World

__all__ = ["Fleet", "Process", "Trap"]

_AFTER_FORK = 1.0
"""Seconds after a fork at which the child's listener starts (`flagcache.worker.listener`)."""


@dataclass(slots=True)
class Trap:
    """Freezes a process at one of its points."""

    point: str
    seconds: float


class Process(Owner):
    """One process.

    Args:
        world: its world.
        name: its identity in the fleet.
        kind: its kind.
        parent: the process that it was forked from, just now.
    """

    def __init__(self, world: World, name: str, kind: ProcessKind, parent: Process | None = None) -> None:
        super().__init__(world.scheduler, name)
        self.world = world
        self.kind = kind
        self.oracle = world.oracle
        self.store_timeout = kind.settings.store_timeout
        self.lineage: str = parent.lineage if parent else name
        self.last_held: LastHeld = replace(parent.last_held) if parent else LastHeld()
        self.know = parent.know_now().in_child() if parent else Knowledge()
        self.fetching_since: dict[str, float] = {}
        """When each fetch under way began, by the store that granted it."""
        self.permits = 0
        self.granted_by = ""
        self.stops = 0
        """How often it was stopped."""
        self.paused: float = parent.paused if parent else 0.0
        """Seconds for which its own clock stood still."""
        self._clock_stopped: float | None = None
        self.trap: Trap | None = None
        self._troubled_at = float("-inf")
        self._worker: Worker | None = None
        self.sdk = Sdk(self, kind.poll_interval)
        self._parent_listened = parent is not None and parent.listens
        if parent is not None:
            self.sdk.inherit(parent.sdk)
        self.config = self._make_config()
        self.oracle.processes[name] = self

    def _make_config(self) -> CacheConfig:
        clients, events = Clients(), Events()
        if self.kind.attached:
            clients.add(Attached(self, self.sdk, has_key=self.kind.has_key))
        events.subscribe(self._on_event)
        stores, protection = self._stores(), self.world.protection
        made = partial(CacheConfig, NAMESPACE, self.kind.settings, vendor, stores, events, protection=protection)
        return made(clock=self.clock, clients=clients)

    def _stores(self) -> tuple[StoreSpec, ...]:
        world = self.world
        specs = [StoreSpec("fleet", lambda: Link(self, world.fleet, self.oracle))]
        if world.hosts:
            specs.append(StoreSpec("host", lambda: Link(self, world.hosts[self.kind.host], self.oracle), fallback=True))
        return (*specs, StoreSpec("memory", self._own_memory, pace=self.kind.pace))

    def _own_memory(self) -> Store:
        network = Network(self.world.network.rng, latency=1e-6)
        return Link(self, SharedStore(f"memory {self.lineage}", self.scheduler, network), self.oracle)

    def _on_event(self, event: Event) -> None:
        self.world.note(f"{self.name} {event}")
        if isinstance(event, LateFetchRefused):
            self.sdk.refused()

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def worker(self) -> Worker:
        """Its part of the engine."""
        assert self._worker is not None
        return self._worker

    @property
    def held(self) -> Held | None:
        """The definitions that it holds."""
        return self._worker.know.held if self._worker else self.know.held

    @property
    def listens(self) -> bool:
        """Whether it runs a listener."""
        return self._worker is not None and self._worker.background.running

    def know_now(self) -> Knowledge:
        """Everything that it knows."""
        return self._worker.know if self._worker else self.know

    def clock(self) -> float:
        """Its own clock: only goes forward, and may have stood still."""
        now = self.scheduler.now if self._clock_stopped is None else self._clock_stopped
        return 1000.0 + now - self.paused

    def tolerance(self) -> float:
        """Seconds by which its ages are uncertain, because clocks were stepped back or stopped."""
        return self.world.paused + sum(store.stepped_back for store in self.world.stores)

    def uid_of(self, store_name: str) -> str:
        """Return the store that this process calls by this name."""
        if store_name == "host":
            return self.world.hosts[self.kind.host].uid
        return store_name if store_name == "fleet" else f"{store_name or 'nowhere'} {self.lineage}"

    def healthy_since(self, uid: str) -> bool:
        """Return whether it has been fetching for this store, and healthy all the time."""
        since = self.fetching_since.get(uid)
        slow = self.world.network.latency > 0.01
        if (
            since is None
            or slow
            or not self.alive
            or self.frozen
            or self.sdk.stopped.is_set()  # a worker that leaves during a fetch gives up the lease
            or self._troubled_at >= since - self.kind.poll_interval
        ):
            return False
        return self.scheduler.now - since < 10.0

    def converged(self, content: int) -> bool:
        """Return whether it uses this content, and knows that."""
        held = self.held
        return self.sdk.content == content and held is not None and held.meta.version == version_of(content)

    # --- what it does ------------------------------------------------------------------------------------------------

    def begin(self, delay: float) -> None:
        """Start it."""
        self.start(self._main, "main", delay)

    def _main(self) -> None:
        know = self.know._replace(project="key=abc" if self.kind.attached else self.know.project)
        self._worker = Worker(self.config, know)
        if self._parent_listened:
            self.start(self._worker.background.start, "after-fork", _AFTER_FORK)
        if self.know.held is not None or self.sdk.flags is not None:
            self.sdk.start_poller()
        else:
            self.sdk.run()

    def evaluate(self) -> None:
        """Let a request thread ask for a flag: it loads the flags if there are none yet."""
        if self._worker is not None and self.sdk.flags is None:
            self.start(self.sdk.load, "request")

    def shut_down(self) -> None:
        """Shut down."""
        if self._worker is not None:
            self.sdk.stopped.set()
            self.start(self._leave, "shutdown")

    def _leave(self) -> None:
        if self.sdk.poller is not None:
            self.sdk.poller.join()
        self.worker.shutdown()
        self.kill()

    def stop(self, seconds: float, *, clock: bool = False) -> None:
        """Freeze it for a time, optionally with its own clock."""
        if self.alive and not self.frozen:
            self.stops += 1
            self._clock_stopped = self.scheduler.now if clock else None
            self.disturbed()
            self.freeze()
            self.scheduler.after(seconds, self.go_on)

    def go_on(self) -> None:
        """Let it continue if it was frozen."""
        if not self.frozen:
            return
        if self._clock_stopped is not None:
            self.paused += self.scheduler.now - self._clock_stopped
            self.world.paused += self.scheduler.now - self._clock_stopped
            self._clock_stopped = None
        self.disturbed()
        self.thaw()

    def point(self, name: str) -> None:
        """Freeze the process if a trap is set for the running task's point."""
        if self.trap is not None and self.trap.point == name:
            seconds, self.trap = self.trap.seconds, None
            self.world.note(f"{self.name} frozen {name} for {seconds:.1f} s")
            self.stop(seconds)
            current_task().wait(0)

    def disturbed(self) -> None:
        """Record that something kept it from its duties."""
        self._troubled_at = self.scheduler.now

    def kill(self) -> None:
        """As SIGKILL."""
        super().kill()
        self.world.note(f"{self.name} ended")

    def stepped(self) -> None:
        """Check the result of the latest step."""
        self.oracle.check_held(self)

    def request(self, etag: str, longest: float) -> Response | None:
        """Ask PostHog on the running task."""
        if not self.permits:
            self.oracle.report(f"rule 1: {self.name} asks PostHog without a grant")
        self.permits = 0
        record = current_task().record
        uid = record.granted_by or self.granted_by
        self.fetching_since[uid] = self.scheduler.now
        self.point("before fetch")
        response = self.world.posthog.request(self.name, etag, longest)
        if response is not None and response.status in (200, 304):
            record.served = (version_of(response.content), response.served)
            self.world.note(f"{self.name} fetched {response.content}, status {response.status}")
        self.point("after fetch")
        self.fetching_since.pop(uid, None)
        return response


@dataclass(slots=True)
class Fleet:
    """All processes that were ever started."""

    world: World
    all: list[Process] = field(default_factory=list[Process])

    def add(self, kind: ProcessKind, delay: float = 0.0, parent: Process | None = None) -> Process:
        """Start one more."""
        mark = REFRESHER if kind.refresher else ""
        process = Process(self.world, f"{mark}w{len(self.all)}", kind, parent)
        self.all.append(process)
        process.begin(delay)
        return process

    @property
    def alive(self) -> list[Process]:
        """Those that live."""
        return [process for process in self.all if process.alive]
