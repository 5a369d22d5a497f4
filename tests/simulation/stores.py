"""Stores that several processes share, and that fail in every way: the engine's own memory store, with faults."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flagcache.errors import StoreError
from flagcache.stores.base import Notice
from flagcache.stores.memory import MemoryStore
from flagcache.stores.rules.state import State
from tests.simulation.scheduler import Scheduler
from tests.simulation.threads import Event

__all__ = ["LinkedProcess", "Network", "SharedStore"]

_NOT_STORED = ("invalid_epoch",)
_OF_A_KEY = ("note_stamp", "epoch_stamp")
"""Fields that a fleet without a key leaves empty; losing one would only change what else is drawn."""

_BEGINNING = 1_000_000.0
"""Seconds on every store's clock when a run begins."""


@dataclass(slots=True)
class Network:
    """The delays and losses of messages, in one run."""

    rng: random.Random
    latency: float = 0.002
    lost_requests: float = 0.0
    lost_replies: float = 0.0
    lost_notices: float = 0.0
    doubled_notices: float = 0.0

    def delay(self) -> float:
        """Seconds that one message takes."""
        return self.rng.expovariate(1 / self.latency)

    def happens(self, chance: float) -> bool:
        """Return whether something of this probability happens now."""
        return chance > 0 and self.rng.random() < chance

    def heal(self) -> None:
        """Lose nothing from now on, and be fast."""
        self.latency = 0.002
        self.lost_requests = self.lost_replies = self.lost_notices = self.doubled_notices = 0.0


class LinkedProcess(Protocol):
    """What a link needs to know of its process."""

    name: str
    store_timeout: float

    def point(self, name: str) -> None:
        """Freeze the process if that is planned for this point of the running task."""
        ...

    def disturbed(self) -> None:
        """Record that a store failed this process."""
        ...


class SharedStore(MemoryStore):
    """A store that several processes share.

    Args:
        uid: names it among all stores of the run.
        scheduler: has the clock.
        network: the delays and losses of messages.
        signed: its processes have a key.
    """

    def __init__(self, uid: str, scheduler: Scheduler, network: Network, *, signed: bool = False) -> None:
        super().__init__(clock=self.clock)
        self.uid = uid
        self.scheduler = scheduler
        self.network = network
        self._unused = _NOT_STORED if signed else (*_NOT_STORED, *_OF_A_KEY)
        self.offset = _BEGINNING
        self.stepped = False
        """Its clock was stepped."""
        self.stepped_back = 0.0
        """Seconds by which it was put back, in all."""
        self.disordered = False
        """Its clock was put back, and then it lost the highest order that it had granted: new orders may be lower."""
        self.down = False
        self.frozen = False
        self.cut_off: set[str] = set()
        """Processes that cannot reach it."""
        self.spoiled_at = float("-inf")
        """When it last lost something, or its clock was stepped."""
        self.answered = 0
        """The latest grant whose result was reported to it."""
        self.grants: deque[int] = deque(maxlen=8)
        self.evicts = False
        """It keeps nothing for long."""
        self.grants_while_it_evicts: deque[float] = deque(maxlen=4)
        """When the latest of its grants was given."""
        self.was_empty = False
        """When the latest grant was given."""
        self._requests: list[Callable[[], None]] = []
        self._kept = (State(), b"")
        self._tap = super().subscribe()
        self._streams: list[_Stream] = []

    def clock(self) -> int:
        """Its own time, in milliseconds."""
        return round((self.scheduler.now + self.offset) * 1000)

    @property
    def state(self) -> State:
        """Everything that it stores, except the payload."""
        return self._state

    def reachable(self, process: LinkedProcess) -> bool:
        """Whether a message between it and this process arrives."""
        return not self.down and process.name not in self.cut_off

    # --- faults ------------------------------------------------------------------------------------------------------

    def step_clock(self, seconds: float) -> None:
        """Put its clock forward or back."""
        self.offset += seconds
        self.stepped = True
        self.stepped_back += max(0.0, -seconds)
        self.spoiled()

    def spoiled(self) -> None:
        """Record that it lost something, so that rules don't count what it has forgotten."""
        self.spoiled_at = self.scheduler.now
        self.grants.clear()

    def flush(self) -> None:
        """Lose everything."""
        self._replace(State(), b"")

    def remember(self) -> None:
        """Keep the state to which `roll_back` returns."""
        self._kept = (self._state, self._payload)

    def roll_back(self) -> None:
        """Lose the latest writes and all connections for notices, as in a failover."""
        self._replace(*self._kept)
        self.drop_streams()

    def garble(self) -> None:
        """Make the payload unreadable."""
        self._replace(self._state, b"\1m garbage")

    def forget_some(self, rng: random.Random) -> None:
        """Lose some fields of the metadata."""
        fields = {name: value for name, value in State._field_defaults.items() if name not in self._unused}
        lost = {name: default for name, default in fields.items() if rng.random() < 0.3}
        self._replace(self._state._replace(**lost), self._payload)

    def thaw(self) -> None:
        """Answer again; all requests that came meanwhile are executed, too late."""
        self.frozen = False
        requests, self._requests = self._requests, []
        for request in requests:
            self.scheduler.after(0, request)

    def drop_streams(self) -> None:
        """End all connections for notices."""
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.lose()

    def _replace(self, state: State, payload: bytes) -> None:
        self.disordered |= self.stepped_back > 0 and state.highest < self._state.highest
        self._state, self._payload = state, payload
        self.spoiled()

    # --- messages ----------------------------------------------------------------------------------------------------

    def receive(self, request: Callable[[], None]) -> None:
        """Execute a request, or keep it until the store is thawed."""
        if self.frozen:
            self._requests.append(request)
        else:
            request()

    def listen(self, process: LinkedProcess) -> _Stream:
        """Open a stream of notices."""
        stream = _Stream(process)
        self._streams = [s for s in self._streams if not s.closed] + [stream]
        return stream

    def send_notices(self) -> None:
        """Send the notices of the latest verb."""
        while (notice := self._tap.get(0)) is not None:
            for stream in self._streams:
                if not self.reachable(stream.process) or self.network.happens(self.network.lost_notices):
                    continue
                for _ in range(2 if self.network.happens(self.network.doubled_notices) else 1):
                    self.scheduler.after(self.network.delay(), _Delivery(stream, notice))


class _Stream:
    """One process's stream of notices."""

    def __init__(self, process: LinkedProcess) -> None:
        self.process = process
        self.closed = False
        self._lost = False
        self._notices: deque[Notice] = deque(maxlen=64)
        self._news = Event()

    def put(self, notice: Notice) -> None:
        self._notices.append(notice)
        self._news.set()

    def lose(self) -> None:
        self._lost = True
        self._news.set()

    def get(self, timeout: float) -> Notice | None:
        if not self._notices and not self._lost and not self.closed:
            self._news.clear()
            self._news.wait(timeout)
        if self._lost:
            raise StoreError("the stream of notices broke")
        return self._notices.popleft() if self._notices else None

    def close(self) -> None:
        self.closed = True
        self._news.set()


@dataclass(frozen=True, slots=True)
class _Delivery:
    stream: _Stream
    notice: Notice

    def __call__(self) -> None:
        self.stream.put(self.notice)
