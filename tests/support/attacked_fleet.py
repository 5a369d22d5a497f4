# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""A fleet that a writer without a key attacks, and what that costs it.

An attack is a function of a `KeylessWriter`: a raw Redis client, the names of the fleet's keys, and what the store held
before the latest change. The fleet is real: clients of the SDK, caches on a real Redis, a stand-in for PostHog, all in
this process and with short intervals.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from flagcache.events import StoreLost
from flagcache.settings import KeyMaterial, Options
from flagcache.status import State
from flagcache_posthog.testing import PostHogStandIn, make_definitions
from tests.support.attached_clients import AttachedContext, attached
from tests.support.fleet_tasks import load
from tests.support.redis_writer import RedisWriter
from tests.support.servers import RedisServer, until

__all__ = [
    "EVERY",
    "KINDS",
    "KINDS_WITH_A_KEY",
    "SIZE",
    "Attack",
    "AttackCost",
    "AttackedFleet",
    "KeylessWriter",
    "attacked_fleet",
]

EVERY = 0.4
"""Seconds between two fetches of the fleet."""

SIZE = 3
"""Workers in it."""

_KEY, _NEW_KEY = secrets.token_hex(16), secrets.token_hex(16)

KINDS: Mapping[str, Options] = {"plain": {}, "signed": {"signing_key": _KEY}, "sealed": {"encryption_key": _KEY}}
"""The options of each protection."""

KINDS_WITH_A_KEY = ("signed", "sealed")

_ROTATION: Sequence[KeyMaterial] = ([_KEY, _NEW_KEY], [_NEW_KEY, _KEY], _NEW_KEY)
"""The keys of the three deployments that replace a key (`docs/security.md`)."""

_DEPLOYED_EVERY = 4.0
"""Seconds from one of them to the next: twice `stale_after`."""

_LATE = 8 * EVERY
"""Seconds after a change from which older definitions may not be called fresh: `stale_after` (five intervals),
and one and a half by which a poll may be overdue before a process doubts its last reply."""


class KeylessWriter(RedisWriter):
    """Can read and write all of a fleet's Redis, and has no key."""

    before: Mapping[bytes, bytes] = {}
    """The hash as it was before the latest change."""

    def lead_from_now(self) -> None:
        """Give the lease to a process that does not exist, as if it had been elected now."""
        self.write(led_since=self.now())
        self.lead()

    def publish(self, *messages: str | bytes) -> None:
        """Send notices on the fleet's channel."""
        for message in messages:
            self.redis.publish(self.keys.channel, message)


Attack: TypeAlias = Callable[[KeylessWriter], object]


@dataclass(slots=True)
class AttackCost:
    """What an attack cost the fleet."""

    wrong: set[int | None] = field(default_factory=set[int | None])
    """Revisions that a client held and PostHog never served, or that came after a newer one."""
    lost: int = 0
    """How often a client was seen without flags that had some."""
    requests: int = 0
    """Made to PostHog during the attack."""
    intervals: float = 0.0
    """How many refresh intervals it lasted."""
    false_fresh: int = 0
    """How often a process called definitions fresh that PostHog had replaced eight intervals before."""
    caught_up: float | None = None
    """Seconds from the change that came with the attack until all clients held it; None: not during the attack."""
    sent: int = 0
    """Bytes that the server sent to all its clients during the attack."""
    failures: int = 0
    """How often a process counted the store as lost."""
    healed: float = 0.0
    """Seconds from the end of the attack, and a change at PostHog, until all held that."""

    @property
    def most_requests(self) -> float:
        """What each process's own limit allows: four fetches in each interval."""
        return 4 * SIZE * (self.intervals + 1)

    @property
    def harm(self) -> str:
        """What an attack did that none may do to a fleet with a key; empty if nothing."""
        harmless = not self.wrong and not self.lost and not self.false_fresh and self.requests <= self.most_requests
        return "" if harmless else str(self)


class AttackedFleet:
    """A fleet, and an attacker who can write to its store."""

    def __init__(
        self,
        posthog: PostHogStandIn,
        make_context: Callable[[int, Options], AttachedContext],
        kind: str,
        writer: KeylessWriter,
    ) -> None:
        self._posthog = posthog
        self._make_context = make_context
        self._kind = kind
        self._contexts = [make_context(index, KINDS[kind]) for index in range(SIZE)]
        self._writer = writer
        self._newest = 1
        self._changed_at = time.monotonic()

    def change(self) -> None:
        """Change a flag at PostHog."""
        self._newest += 1
        self._changed_at = time.monotonic()
        self._posthog.serve(make_definitions(5, revision=self._newest))

    def wait_until_settled(self, *, within: float) -> float:
        """Wait until every client holds what PostHog serves; returns how many seconds that took."""
        began = time.monotonic()
        until(lambda: set(self._held()) == {self._newest}, within, what=f"revision {self._newest} in every client")
        return time.monotonic() - began

    def run_attack(self, attack: Attack, *, times: int, seconds: float, change: bool = False) -> AttackCost:
        """Run the attack, and watch; then change a flag, and wait until the fleet heals.

        Args:
            attack: One write, or several.
            times: How often, spread over the time.
            seconds: How long the fleet is watched.
            change: Change a flag at PostHog as the attack begins.
        """
        cost, began = AttackCost(intervals=seconds / EVERY), time.monotonic()
        sent = _sent(self._writer)
        seen = [len(context.client.history) for context in self._contexts]
        before, done = self._posthog.requests, 0
        while (passed := time.monotonic() - began) < seconds:
            if done < times and passed >= done * seconds / times:
                attack(self._writer)
                done += 1
                if change and done == 1:
                    self.change()
            self._sample(cost)
            time.sleep(0.02)
        cost.requests, cost.sent = self._posthog.requests - before, _sent(self._writer) - sent
        self.change()
        cost.healed = self.wait_until_settled(within=20 * EVERY)
        self._check_histories(cost, seen)
        cost.failures = sum(isinstance(event, StoreLost) for context in self._contexts for event in context.events)
        return cost

    def rotate_keys(self, attack: Attack) -> AttackCost:
        """Replace the fleet's key while the attack continues, with a change at PostHog after each deployment.

        The attack ends with the last deployment; then the fleet heals.
        """
        cost = AttackCost()
        with _repeated(attack, self._writer):
            for keys in _ROTATION:
                self._deploy({"signing_key": keys} if self._kind == "signed" else {"encryption_key": keys}, cost)
                self.change()
                self._watch(cost, _DEPLOYED_EVERY)
        seen = [len(context.client.history) for context in self._contexts]
        self.change()
        cost.healed = self.wait_until_settled(within=20 * EVERY)
        self._check_histories(cost, seen)
        return cost

    def _deploy(self, options: Options, cost: AttackCost) -> None:
        """Replace one worker after the other; look through what each of the old ones held."""
        for index, old in enumerate(self._contexts):
            self._contexts[index] = self._make_context(index, options)
            old.client.shutdown()
            self._check_history(cost, old, 0)

    def _watch(self, cost: AttackCost, seconds: float) -> None:
        until_then = time.monotonic() + seconds
        while time.monotonic() < until_then:
            self._sample(cost)
            time.sleep(0.02)

    def write(self, attack: Attack) -> None:
        """Run the attack once, without watching."""
        attack(self._writer)

    @property
    def full_fetches(self) -> int:
        """How often PostHog sent definitions."""
        return self._posthog.full_fetches

    def fetched_since(self, full_fetches: int) -> bool:
        """Return whether it sent definitions again."""
        return self.full_fetches > full_fetches

    def _held(self) -> list[int | None]:
        return [context.client.history[-1].revision for context in self._contexts]

    def _sample(self, cost: AttackCost) -> None:
        since = time.monotonic() - self._changed_at
        late = since > _LATE
        if cost.caught_up is None and set(self._held()) == {self._newest}:
            cost.caught_up = since
        for context, held in zip(self._contexts, self._held(), strict=True):
            cost.false_fresh += late and held != self._newest and context.cache.status().state is State.FRESH

    def _check_histories(self, cost: AttackCost, seen: list[int]) -> None:
        """Check all that the clients held since; wrong definitions count even if they were held for a moment."""
        for context, known in zip(self._contexts, seen, strict=True):
            self._check_history(cost, context, known)

    def _check_history(self, cost: AttackCost, context: AttachedContext, known: int) -> None:
        newest = (context.client.history[known - 1].revision or 0) if known else 0
        for sighting in context.client.history[known:]:
            cost.lost += not sighting.flags and newest > 0
            if not sighting.flags:
                continue
            if sighting.revision is None or not newest <= sighting.revision <= self._newest:
                cost.wrong.add(sighting.revision)
            else:
                newest = sighting.revision


@contextmanager
def _repeated(attack: Attack, writer: KeylessWriter) -> Generator[None]:
    """The attack continues, twenty times a second, while the body runs."""
    over = threading.Event()

    def write() -> None:
        while not over.wait(0.05):
            attack(writer)

    thread = threading.Thread(target=write, name="attacker")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _sent(writer: KeylessWriter) -> int:
    return int(writer.redis.info("stats")["total_net_output_bytes"])


@contextmanager
def attacked_fleet(server: RedisServer, namespace: str, kind: str) -> Generator[AttackedFleet]:
    """A fleet with this protection that has seen one change, and a writer that has a copy of the store before it."""
    with ExitStack() as stack:
        posthog = stack.enter_context(PostHogStandIn(make_definitions(5)))

        def make_context(index: int, options: Options) -> AttachedContext:
            context = attached(posthog, server.url, namespace, every=EVERY, **options)(index)
            stack.callback(context.client.shutdown)
            load(context)
            return context

        writer = KeylessWriter(server, namespace, kind)
        fleet = AttackedFleet(posthog, make_context, kind, writer)
        stack.callback(writer.redis.close)
        until(lambda: writer.read("payload"), what="the first definitions in Redis")
        writer.before = writer.fields()
        fleet.change()
        fleet.wait_until_settled(within=20 * EVERY)
        yield fleet
