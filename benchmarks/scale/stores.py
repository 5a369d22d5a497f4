"""The stores of a simulated day: the library's own rules on one Redis, and on a file of each host.

`flagcache.stores.rules.verbs` decides what a verb does: the memory and SQLite stores run on these pure functions, and
the Lua scripts mirror them. This module only adds how long Redis takes and how many bytes it sends.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.scale.tally import Tally
from benchmarks.scale.wire import call_size, notice_size, poll_size, reply_size
from benchmarks.scale.world import Down, Link, Machine, PostHog, Timeline
from flagcache.errors import StoreError
from flagcache.stores.base import Ask, Envelope, Grant, Notice, Published, Reply, Scope
from flagcache.stores.redis.store import keys_of
from flagcache.stores.rules import verbs as rules
from flagcache.stores.rules.leases import GRACE

__all__ = ["HostFile", "RedisServer", "Sizes", "World", "clock_of"]

_T = TypeVar("_T")

_DAY = 1_790_000_000_000
"""The store's clock when the simulated day begins, in milliseconds. It has as many digits as a real clock."""

_PAST = 64
"""Number of earlier states of Redis that are kept: more than arise within one poll interval."""

_KEYS = keys_of("my-team", 0)

_FLAG_REPLY = len(":1\r\n")
_TEXT_REPLY = len("$9\r\nconfirmed\r\n")


def clock_of(now: float) -> int:
    """Return a store's clock at this time, in milliseconds."""
    return _DAY + round(now * 1000)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a project's definitions."""

    json: int
    """As JSON: from PostHog, and in the store of a provider that encodes them as JSON."""
    envelope: int
    """In flagcache's stores."""


@dataclass(slots=True)
class World:
    """What all processes of a simulated day share."""

    timeline: Timeline
    tally: Tally
    posthog: PostHog
    machine: Machine
    sizes: Sizes
    redis_down: Down
    poll_interval: float
    """Seconds between two polls of a process, and between two fetches of a fleet."""
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    link: Link = field(init=False)

    def __post_init__(self) -> None:
        self.link = Link(self.timeline, self.machine.bandwidth)


class HostFile:
    """The fallback store of one host: the same rules, no network, no notices.

    Args:
        store_name: its name.
    """

    def __init__(self, store_name: str) -> None:
        self.store_name = store_name
        self.state = rules.State()

    def poll(self, now: float, ask: Ask) -> tuple[Reply, float]:
        """Decide; return the reply and the time at which it was decided."""
        at = self._serve(now)
        state, reply = rules.poll(self.state, ask, clock_of(at))
        self._set(at, state)
        return reply, at

    def publish(self, now: float, me: str, envelope: Envelope, *, fresh: bool, lease: int) -> Published:
        """As `Store.publish`."""
        meta = envelope.meta
        texts = (meta.version, meta.etag, meta.writer, meta.project)
        numbers = (meta.epoch, meta.as_of, meta.changed_at, meta.confirmed_at)
        size = _call(me, _KEYS.channel, int(fresh), lease, *texts, *numbers) + len(envelope.payload)
        return self._tell(
            now,
            size,
            _TEXT_REPLY,
            lambda state, clock: rules.publish(state, me, envelope, clock, fresh=fresh, lease=lease),
        )

    def confirm(self, now: float, me: str, version: str, grant: Grant, lease: int) -> bool:
        """As `Store.confirm`."""
        size = _call(me, version, grant.as_of, grant.at, lease, _KEYS.channel)
        return self._tell(
            now, size, _FLAG_REPLY, lambda state, clock: rules.confirm(state, me, version, grant, clock, lease=lease)
        )

    def fail(self, now: float, me: str, as_of: int, scope: Scope, *, status: int, retry_after: int) -> bool:
        """As `Store.fail`."""
        size = _call(me, as_of, scope.value, status, retry_after, _KEYS.channel)
        return self._tell(
            now,
            size,
            _FLAG_REPLY,
            lambda state, clock: rules.fail(state, me, as_of, scope, clock, status=status, retry_after=retry_after),
        )

    def renew(self, now: float, me: str, lease: int) -> bool:
        """As `Store.renew`."""
        return self._tell(
            now,
            _call(me, lease),
            _FLAG_REPLY,
            lambda state, clock: (*rules.renew(state, me, lease, clock), None),
        )

    def release(self, now: float, me: str) -> bool:
        """As `Store.release`, with no fetch under way."""
        return self._tell(
            now,
            _call(me, _KEYS.channel, 1),
            _FLAG_REPLY,
            lambda state, clock: rules.release(state, me, clock, idle=True),
        )

    def _tell(
        self,
        now: float,
        received: int,
        sent: int,
        verb: Callable[[rules.State, int], tuple[rules.State, _T, Notice | None]],
    ) -> _T:
        at = self._serve(now)
        state, result, notice = verb(self.state, clock_of(at))
        self._set(at, state)
        self._counted(at, received, sent)
        if notice is not None:
            self._notify(at, notice)
        return result

    def _serve(self, now: float) -> float:
        return now

    def _set(self, at: float, state: rules.State) -> None:
        self.state = state

    def _counted(self, at: float, received: int, sent: int) -> None:
        """Nothing: a file has no network."""

    def _notify(self, at: float, notice: Notice) -> None:
        """Nothing: a file has no subscribers."""


class RedisServer(HostFile):
    """The fleet's Redis: one thread, one outgoing link, subscribers, and times when it is down.

    It also knows until when a follower's poll can't change anything (`pass_quietly`): such polls need only be counted.

    Args:
        world: the simulation that it is part of.
        notify: called with the time and the notice, for all subscribers.
        subscribers: returns their number.
        ask: what all polls of this fleet have in common.
        slack: seconds that the lease must last beyond a poll for it to be quiet; 0 if no worker contends between polls.
    """

    def __init__(
        self,
        world: World,
        notify: Callable[[float, Notice], None],
        subscribers: Callable[[], int],
        *,
        ask: Ask,
        slack: float,
    ) -> None:
        super().__init__("redis")
        self._world = world
        self._tell_subscribers = notify
        self._subscribers = subscribers
        self._slack = round(slack * 1000)
        age = round(world.poll_interval * 1000)
        self._ask = ask._replace(idle=True, grant_age=age, held_age=age)
        self._past: deque[tuple[float, rules.State]] = deque(maxlen=_PAST)
        self._free_at = 0.0
        self._quiet_until = 0.0
        self._version = ""
        self._as_of = 0
        self._request = 0
        self._replies = (0, 0)

    def poll(self, now: float, ask: Ask) -> tuple[Reply, float]:
        """Decide, and count the bytes on the wire."""
        reply, at = super().poll(now, ask)
        self._counted(at, poll_size(_KEYS, ask), reply_size(reply, self._world.sizes.envelope))
        return reply, at

    def pass_quietly(self, now: float, version: str, seen: int) -> int:
        """Count a follower's poll if it changes nothing and its reply contains only ages.

        Args:
            now: when it polls.
            version: that it holds.
            seen: the `as_of` that it last saw here.

        Returns:
            The `as_of` that it sees now; 0: a full poll is needed.
        """
        if not self._free_at <= now < self._quiet_until or version != self._version:
            return 0
        self._world.tally.asked_redis(now, self._request, self._replies[seen == self._as_of])
        return self._as_of

    def state_at(self, now: float) -> rules.State:
        """Return the state at this time, which must not be more than a few polls ago."""
        return next(state for at, state in reversed(self._past) if at <= now)

    def subscribe(self, now: float) -> None:
        """Count a subscription."""
        self._refuse_if_down(now)
        size = len(_KEYS.channel)
        self._world.tally.asked_redis(now, size + 30, size + 34)

    def flush(self) -> None:
        """Lose everything, as Redis without a disk does when it restarts."""
        self.state = rules.State()
        self._quiet_until = 0.0

    def _refuse_if_down(self, now: float) -> None:
        if self._world.redis_down.at(now):
            raise StoreError("refused")

    def _serve(self, now: float) -> float:
        self._refuse_if_down(now)
        machine = self._world.machine
        at = max(now + machine.round_trip / 2, self._free_at)
        self._free_at = at + machine.script
        return at

    def _counted(self, at: float, received: int, sent: int) -> None:
        self._world.tally.asked_redis(at, received, sent)

    def _notify(self, at: float, notice: Notice) -> None:
        count = self._subscribers()
        self._world.tally.told(at, count, notice_size(_KEYS.channel, notice))
        self._free_at = max(self._free_at, at) + count * self._world.machine.notice
        self._tell_subscribers(at, notice)

    def _set(self, at: float, state: rules.State) -> None:
        if state is self.state:
            return
        self.state = state
        self._past.append((at, state))
        self._look(at)

    def _look(self, at: float) -> None:
        """Compute until when polls can't change anything."""
        state = self.state
        if state.meta is None or not state.owner or state.backoff_status or state.backoff_until:
            self._quiet_until = 0.0
            return
        silent_at = max(state.meta.confirmed_at, state.led_since) + self._ask.challenge
        until = min(state.lease_until - self._slack, silent_at)
        if self._ask.listens:  # if there is no deputy, a poll makes its sender the deputy, and takes an overdue fetch
            if not state.deputy:
                self._quiet_until = 0.0
                return
            overdue_at = state.granted[0] + self._ask.interval + GRACE
            until = min(until, overdue_at, state.deputy_seen + 2 * (self._ask.interval + GRACE))
        begins = self._world.redis_down.begins
        self._quiet_until = min((until - _DAY) / 1000 - 0.01, begins if at < begins else math.inf)
        self._version, self._as_of = state.meta.version, state.meta.as_of
        self._request = poll_size(
            _KEYS, self._ask._replace(held=state.meta.order, held_version=state.meta.version, leader=state.owner)
        )
        clock = clock_of(at)
        same = Reply(clock=clock, leads=False, lease_left=30_000, granted_at=state.granted[0], unchanged=True)
        other = Reply(clock=clock, leads=False, lease_left=30_000, granted_at=state.granted[0], meta=state.meta)
        self._replies = (reply_size(other, 0), reply_size(same, 0))


def _call(*arguments: object) -> int:
    """Return the number of bytes of a verb's call."""
    return call_size(_KEYS.hash, _KEYS.lease, *arguments)
