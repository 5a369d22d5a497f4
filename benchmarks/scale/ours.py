"""A simulated flagcache fleet: attached, or by the SDK's protocol only."""

from __future__ import annotations

import random

from benchmarks.scale.shared import Shared
from benchmarks.scale.stores import HostFile, World
from benchmarks.scale.worker import Worker
from flagcache.core.notices import SPREAD

__all__ = ["Ours"]

_PER_HOST = 8
"""Workers that share a host, and with it a fallback store."""


class Ours:
    """All processes that share definitions by one Redis; same arguments as `Shared`."""

    def __init__(self, world: World, *, attached: bool, may_be_quiet: bool = True, spread: float = SPREAD) -> None:
        self._shared = Shared(world, attached=attached, may_be_quiet=may_be_quiet, spread=spread)
        self._hosts: dict[int, HostFile] = {}
        self._ids = random.Random(2)

    def start(self, now: float, place: int) -> Worker:
        """Start the process with this number in the fleet."""
        host = self._hosts.setdefault(place // _PER_HOST, HostFile(f"host {place // _PER_HOST}"))
        me = f"web-{place:05}:{self._ids.randrange(2, 99_999)}:{self._ids.randbytes(6).hex()}"
        worker = Worker(self._shared, me, host)
        worker.begin(now)
        return worker

    def leads(self, process: object) -> bool:
        """Whether it has Redis's lease."""
        return isinstance(process, Worker) and process.leads
