"""A simulated flagcache fleet: attached, or by the SDK's protocol only."""

from __future__ import annotations

import random

from benchmarks.scale.background import Background
from benchmarks.scale.stores import HostFile, RedisServer, World
from benchmarks.scale.worker import Worker
from flagcache.core import knowledge
from flagcache.settings import Settings
from flagcache.stores.base import Envelope, Meta, Notice
from flagcache.worker.listener import _SPREAD  # pyright: ignore[reportPrivateUsage] - it is what the figures are about

__all__ = ["Ours"]

_PER_HOST = 8
"""Workers that share a host, and with it a fallback store."""


class Ours:
    """All processes that share definitions by one Redis.

    Args:
        world: where they are.
        attached: whether clients are attached, so that the fleet fetches for itself and changes are pushed.
        may_be_quiet: polls that can change nothing are only counted. False: each is made; the tests compare.
        spread: seconds over which workers spread what they do upon the same notice.
    """

    def __init__(self, world: World, *, attached: bool, may_be_quiet: bool = True, spread: float = _SPREAD) -> None:
        self.world = world
        self.attached = attached
        self.may_be_quiet = may_be_quiet
        self.spread = spread
        self.settings = Settings(refresh_interval=world.poll_interval, poll_interval=world.poll_interval)
        self.lease = self.settings.lease_for(world.poll_interval if attached else None, listening=attached)
        self.listeners: dict[Worker, Background] = {}
        self._payload = b"." * world.sizes.envelope
        template = knowledge.template("web-00000:12345:0123456789ab", self.settings, self.lease)
        self.redis = RedisServer(
            world,
            self._notify,
            lambda: len(self.listeners),
            ask=template._replace(reports=attached, listens=attached),
            slack=world.poll_interval + 0.01 if attached else 0.0,
        )
        self._hosts: dict[int, HostFile] = {}
        self._ids = random.Random(2)
        world.timeline.at(world.redis_down.begins, self._redis_goes)

    def start(self, now: float, place: int) -> Worker:
        """Start a process at this place of the fleet."""
        host = self._hosts.setdefault(place // _PER_HOST, HostFile(f"host {place // _PER_HOST}"))
        worker = Worker(self, f"web-{place:05}:{self._ids.randrange(2, 99_999)}:{self._ids.randbytes(6).hex()}", host)
        worker.begin(now)
        return worker

    def leads(self, process: object) -> bool:
        """Whether it has the lease at Redis."""
        return isinstance(process, Worker) and process.know.view("redis").leads

    def envelope(self, meta: Meta) -> Envelope:
        """An envelope of the right size."""
        return Envelope(meta, self._payload)

    @staticmethod
    def version_of(number: int) -> str:
        """The digest of what PostHog serves in its so manieth version."""
        return f"{number:032x}"

    @staticmethod
    def number_of(version: str) -> int:
        """The reverse."""
        return int(version, 16)

    def _notify(self, now: float, notice: Notice) -> None:
        pause = self.world.machine.notice
        for i, background in enumerate(list(self.listeners.values())):
            background.hear(now + i * pause, notice)

    def _redis_goes(self, now: float) -> None:
        """All connections are lost, and it comes back empty."""
        self.listeners.clear()
        self.redis.flush()
