"""The other providers in a simulated day, as small models of their code.

In doubt the models favour them: the SDK never repeats a request over https, Redis answers them at once, and its network
is fast enough for all.
"""

from __future__ import annotations

from benchmarks.scale.stores import World
from benchmarks.scale.wire import call_size

__all__ = ["Alone", "AloneProcess", "Leased", "LeasedProcess"]

_FLAG_REPLY = len(":1\r\n")
_ME = "0" * 32
_LEASE_KEY, _DATA_KEY = "definitions:my-team:leader", "definitions:my-team"
_LEASE_CALL = call_size(_LEASE_KEY, _ME, 60_000) - 2
_GET = len("*2\r\n$3\r\nGET\r\n$19\r\n") + len(_DATA_KEY) + 2
_READ_REPLY = len("$153173\r\n\r\n")
_SET = len("*5\r\n$3\r\nSET\r\n$19\r\n\r\n$2\r\nEX\r\n$5\r\n86400\r\n") + len(_DATA_KEY)


class AloneProcess:
    """A process whose SDK asks PostHog itself.

    Args:
        world: the simulation that it is part of.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._version: int | None = None
        """The version of the flags that it uses."""
        self._tag: int | None = None
        """The version in its SDK's entity tag."""
        self._started = 0.0
        self.over = False

    def begin(self, now: float) -> None:
        """Start."""
        self._started = now
        self.poll(now)

    def poll(self, now: float) -> None:
        """One poll."""
        if not self.over:
            self._fetch(now)
            self._world.timeline.poll_at(now + self._world.machine.fetch + self._world.poll_interval, self)

    def end(self, now: float, *, politely: bool) -> None:
        """End."""
        self.over = True

    def _fetch(self, now: float) -> int:
        """Ask PostHog; return the version that it sent, or 0."""
        answer = self._world.posthog.request(now, self._tag)
        if answer.status != 200:
            return 0
        self._tag = answer.version
        self._use(now + self._world.machine.fetch, answer.version)
        return answer.version

    def _use(self, now: float, version: int) -> None:
        if version == self._version:
            return
        if self._version is None:
            self._world.tally.has_flags(now, self._started)
        self._version = version
        self._world.tally.took(now, version, self._started)


class Alone:
    """A fleet without a provider.

    Args:
        world: the simulation that it is part of.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self, now: float, place: int) -> AloneProcess:
        """Start a process."""
        process = AloneProcess(self._world)
        process.begin(now)
        return process

    def leads(self, process: object) -> bool:
        """No process fetches for others."""
        return False


class LeasedProcess(AloneProcess):
    """A process behind a lease and one JSON value: the SDK's example, or the same with a leader that republishes.

    Args:
        world: the simulation that it is part of.
        fleet: to which it belongs.
    """

    def __init__(self, world: World, fleet: Leased) -> None:
        super().__init__(world)
        self._fleet = fleet
        self._remembered: int | None = None
        """What it last fetched, and stores again if it is missing."""

    def poll(self, now: float) -> None:
        """One poll: first the lease, then PostHog or the stored definitions."""
        if self.over:
            return
        fetched = self._world.redis_down.at(now) or self._lead(now)
        if fetched:
            self._fetch_and_store(now)
        else:
            fetched = self._read(now)
        spent = self._world.machine.fetch if fetched else 0.0
        self._world.timeline.poll_at(now + spent + self._world.poll_interval, self)

    def end(self, now: float, *, politely: bool) -> None:
        """Stop this process; if it stops cleanly, it gives up the lease."""
        self.over = True
        if politely and not self._world.redis_down.at(now):
            self._world.tally.asked_redis(now, _LEASE_CALL, _FLAG_REPLY)
            if self._fleet.leader is self:
                self._fleet.leader = None

    def _lead(self, now: float) -> bool:
        fleet = self._fleet
        if fleet.leader is not self and fleet.leader is not None and now < fleet.lease_ends:
            return False
        self._world.tally.asked_redis(now, _LEASE_CALL, _FLAG_REPLY)
        fleet.leader, fleet.lease_ends = self, now + fleet.lease
        if fleet.republishes and self._remembered is not None:
            self._world.tally.asked_redis(now, _GET, _FLAG_REPLY)
            if fleet.stored is None:
                self._store(now, self._remembered)
        return True

    def _read(self, now: float) -> bool:
        """Read the stored definitions, because the lease was refused; return whether a fetch was needed instead."""
        stored = self._fleet.stored
        size = self._world.sizes.json if stored is not None else 0
        self._world.tally.asked_redis(now, _LEASE_CALL + _GET, _FLAG_REPLY + _READ_REPLY + size, operations=2)
        if stored is not None:
            self._use(now + self._world.machine.round_trip, stored)
        elif self._version is None:
            self._fetch_and_store(now)
            return True
        return False

    def _fetch_and_store(self, now: float) -> None:
        version = self._fetch(now)
        if version:
            self._remembered = version
            self._world.timeline.at(now + self._world.machine.fetch, lambda then: self._store(then, version))

    def _store(self, now: float, version: int) -> None:
        if self.over or self._world.redis_down.at(now):
            return
        self._world.tally.asked_redis(now, _SET + self._world.sizes.json, len("+OK\r\n"))
        self._fleet.stored = version


class Leased:
    """A fleet behind a lease and one JSON value.

    Args:
        world: the simulation that it is part of.
        lease: seconds for which a leader that stopped renewing keeps the lease.
        republishes: whether a leader stores again what it remembers.
    """

    def __init__(self, world: World, *, lease: float, republishes: bool = False) -> None:
        self._world = world
        self.lease = lease
        self.republishes = republishes
        self.leader: LeasedProcess | None = None
        self.lease_ends = 0.0
        self.stored: int | None = None
        world.timeline.at(world.redis_down.begins, self._redis_goes)

    def start(self, now: float, place: int) -> LeasedProcess:
        """Start a process."""
        process = LeasedProcess(self._world, self)
        process.begin(now)
        return process

    def leads(self, process: object) -> bool:
        """Whether it has the lease."""
        return process is self.leader

    def _redis_goes(self, now: float) -> None:
        """Redis comes back empty."""
        self.leader, self.stored = None, None
