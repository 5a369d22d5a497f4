"""What all processes of a simulated flagcache fleet share: the settings, one Redis, and its subscribers."""

from __future__ import annotations

from typing import Protocol

from benchmarks.scale.stores import RedisServer, World
from flagcache.core import knowledge
from flagcache.core.notices import SPREAD
from flagcache.settings import Settings, milliseconds
from flagcache.stores.base import Envelope, Meta, Notice

__all__ = ["Shared", "Subscriber", "number_of", "version_of"]


class Subscriber(Protocol):
    """A process that listens to the notices of Redis."""

    def hear(self, now: float, notice: Notice) -> None:
        """Receive a notice."""
        ...


class Shared:
    """The common part of one fleet.

    Args:
        world: the simulation that the processes are part of.
        attached: whether clients are attached, so that the fleet fetches for itself and changes are pushed.
        may_be_quiet: polls that can't change anything are only counted. False: each is made. Tests compare the two.
        spread: seconds over which workers spread their polls after a notice.
    """

    def __init__(self, world: World, *, attached: bool, may_be_quiet: bool = True, spread: float = SPREAD) -> None:
        self.world = world
        self.attached = attached
        self.may_be_quiet = may_be_quiet
        self.spread = spread
        self.settings = Settings(refresh_interval=world.poll_interval, poll_interval=world.poll_interval)
        known = world.poll_interval if attached else None
        self.lease_seconds = self.settings.lease_for(known, listening=attached)
        self.stale_after = self.settings.stale_for(known, listening=attached)
        self.lease = milliseconds(self.lease_seconds)
        self.subscribers: dict[str, Subscriber] = {}
        """By identity."""
        self._payload = b"." * world.sizes.envelope
        template = knowledge.template("web-00000:12345:0123456789ab", self.settings, self.lease_seconds)
        self.redis = RedisServer(
            world,
            self._notify,
            lambda: len(self.subscribers),
            ask=template._replace(reports=attached, listens=attached),
            slack=world.poll_interval + 0.01 if attached else 0.0,
        )
        world.timeline.at(world.redis_down.begins, self._redis_goes)

    def envelope(self, meta: Meta) -> Envelope:
        """An envelope of the right size."""
        return Envelope(meta, self._payload)

    def _notify(self, now: float, notice: Notice) -> None:
        pause = self.world.machine.notice
        for i, subscriber in enumerate(list(self.subscribers.values())):
            subscriber.hear(now + i * pause, notice)

    def _redis_goes(self, now: float) -> None:
        """All connections are lost, and Redis comes back empty."""
        self.subscribers.clear()
        self.redis.flush()


def version_of(number: int) -> str:
    """Return the digest of the definitions that PostHog serves with this number. The first ones are 1."""
    return f"{number:032x}"


def number_of(version: str) -> int:
    """The reverse of `version_of`."""
    return int(version, 16)
