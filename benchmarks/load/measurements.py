"""The measurements of one real Redis: polls, a notice to thousands of subscribers, and the reads after a change."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import redis

from benchmarks.load.connections import Caller, open_callers, open_subscribers, request
from benchmarks.scale.wire import poll_words
from benchmarks.statistics import percentile
from flagcache.core import knowledge
from flagcache.core.knowledge import Knowledge
from flagcache.encoding import payload as envelope
from flagcache.settings import Settings
from flagcache.stores.base import Ask, Envelope, Meta
from flagcache.stores.redis.connection import Script, load_script
from flagcache.stores.redis.store import RedisStore
from flagcache_posthog.definitions import PostHogVendor
from flagcache_posthog.testing import make_definitions

__all__ = ["Change", "FanOut", "LoadedRedis", "Offered", "Polls"]

_TIMEOUT = 1.0
"""Seconds after which a worker would give up a read (`store_timeout`)."""

_PATIENCE = 60.0
"""Seconds after which a measurement fails: a connection was lost."""

_DEEP = 32
"""Number of concurrent polls of a connection in a measurement that keeps the server busy."""


@dataclass(frozen=True, slots=True)
class Polls:
    """The cost of unchanged polls for a Redis that has nothing else to do."""

    polls: int
    polls_a_second: float
    """With enough connections to keep it busy. The generator may be the limit."""
    cpu_per_poll: float
    """Seconds of the server's processor time, including reading and writing."""
    polls_a_second_of_one_core: float
    bytes_in: float
    """A poll."""
    bytes_out: float


@dataclass(frozen=True, slots=True)
class Offered:
    """Polls at a fixed rate, however long the answers take."""

    connections: int
    polls_a_second: int
    p50: float
    """Seconds from sending a poll to its answer."""
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class FanOut:
    """One notice to many subscribers, several times."""

    subscribers: int
    first: float
    """Seconds from sending PUBLISH to the first subscriber, the median of the rounds."""
    last: float
    """To the last subscriber, the median of the rounds."""
    last_max: float
    """To the last subscriber, in the worst round."""
    cpu: float
    """Seconds of the server's processor time for one notice to all."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change: a notice to all, and then each reads the payload."""

    workers: int
    flags: int
    payload: int
    """Bytes."""
    spread: float
    """Seconds over which the workers spread their reads."""
    first_to_last: float
    """Seconds."""
    read_p50: float
    """Seconds that a read took."""
    read_p99: float
    late: int
    """Number of reads that took longer than a worker waits."""
    peak_bytes: int
    """Bytes out of Redis within the busiest 100 ms."""
    cpu: float
    """Seconds of the server's processor time for all reads."""


class LoadedRedis:
    """A namespace on one Redis, with a leader and definitions.

    Args:
        path: of the server's unix socket.
        flags: number of flags in the definitions.
    """

    def __init__(self, path: str, flags: int) -> None:
        self.path = path
        self.flags = flags
        self._info = redis.Redis(unix_socket_path=path)
        self._info.flushall()
        self._store = RedisStore(f"unix://{path}?db=0", "my-team")
        self._settings = Settings(refresh_interval=3600.0)
        self._script = Script.of(load_script("_state").text + load_script("poll").text)
        self._info.script_load(self._script.text)
        self._versions: list[Meta] = []
        self.payload = 0
        self.publish()

    def publish(self) -> None:
        """Fetch another version, as a leader does, and publish it; the store sends the notice."""
        number = len(self._versions) + 1
        definitions = PostHogVendor().check(make_definitions(self.flags, revision=number))
        version = envelope.digest(definitions)
        payload = envelope.encode(definitions, version)
        as_of = (self._versions[-1].as_of if self._versions else 1_700_000_000_000) + 30_000
        meta = Meta(version, 0, as_of, as_of, as_of, etag='"0123456789abcdef"', writer="posthog-python/7.91.1")
        self._store.poll(self._template("leader"))
        self._store.publish("leader", Envelope(meta, payload), fresh=False, lease=3_600_000)
        self._versions.append(meta)
        self.payload = len(payload)

    def poll_of(self, worker: int) -> bytes:
        """Return the encoded poll of a follower that holds the stored definitions."""
        held = self._versions[-1]
        ask = self._template(f"web-{worker:05}:12345:0123456789ab")._replace(
            held=held.order,
            held_age=12_345,
            held_version=held.version,
            grant_age=12_345,
        )
        return request("EVALSHA", self._script.sha1, 2, *poll_words(self._store.keys, ask))

    def _template(self, me: str) -> Ask:
        return knowledge.build_poll(knowledge.template(me, self._settings, 3600.0), Knowledge(), "redis", 0.0)

    def close(self) -> None:
        """Close its own connections."""
        self._info.close()
        self._store.close()

    # --- measurements ------------------------------------------------------------------------------------------------

    async def polls(self, connections: int, seconds: float) -> Polls:
        """Keep the server busy with unchanged polls."""
        callers = await open_callers(self.path, connections)
        poll, end = self.poll_of(1), time.monotonic() + seconds

        async def keep_busy(caller: Caller) -> int:
            done = 0
            while time.monotonic() < end:
                await asyncio.gather(*(caller.call(poll) for _ in range(_DEEP)))
                done += _DEEP
            return done

        before, began = self._counters(), time.monotonic()
        count = sum(await asyncio.gather(*(keep_busy(caller) for caller in callers)))
        took, after = time.monotonic() - began, self._counters()
        _close(callers)
        cpu = (after[0] - before[0]) / count
        return Polls(
            polls=count,
            polls_a_second=count / took,
            cpu_per_poll=cpu,
            polls_a_second_of_one_core=1 / cpu,
            bytes_in=(after[1] - before[1]) / count,
            bytes_out=(after[2] - before[2]) / count,
        )

    async def offered(self, connections: int, rate: int, seconds: float) -> Offered:
        """Poll at a fixed pace, each connection in turn."""
        callers = await open_callers(self.path, connections)
        loop = asyncio.get_running_loop()
        polls = [self.poll_of(i) for i in range(connections)]
        took: list[float] = []

        async def one(i: int) -> None:
            sent = loop.time()
            await callers[i].call(polls[i])
            took.append(loop.time() - sent)

        tasks: list[asyncio.Task[None]] = []
        began = loop.time()
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
            tasks.append(loop.create_task(one(number % connections)))
        await asyncio.gather(*tasks)
        _close(callers)
        took.sort()
        return Offered(connections, rate, percentile(took, 50), percentile(took, 99), percentile(took, 100))

    async def fan_out(self, subscribers: int, rounds: int) -> FanOut:
        """Send a notice to all, and wait for the last."""
        loop = asyncio.get_running_loop()
        received: list[float] = []
        all_received = asyncio.Event()

        def on_message(at: float) -> None:
            received.append(at)
            if len(received) == subscribers:
                all_received.set()

        connections = await open_subscribers(
            self.path, subscribers, self._store.keys.channel, [on_message] * subscribers
        )
        (publisher,) = await open_callers(self.path, 1)
        firsts: list[float] = []
        lasts: list[float] = []
        before = self._counters()
        for _ in range(rounds):
            received.clear()
            all_received.clear()
            sent = loop.time()
            await publisher.call(request("PUBLISH", self._store.keys.channel, f"free 0 {'0' * 32}"))
            await asyncio.wait_for(all_received.wait(), _PATIENCE)
            firsts.append(min(received) - sent)
            lasts.append(max(received) - sent)
        cpu = (self._counters()[0] - before[0]) / rounds
        for subscriber in connections:
            subscriber.close()
        _close([publisher])
        firsts.sort()
        lasts.sort()
        return FanOut(subscribers, percentile(firsts, 50), percentile(lasts, 50), lasts[-1], cpu)

    async def change(self, workers: int, spread: float) -> Change:
        """Publish another version; each worker gets the notice, waits a little, and reads it."""
        loop = asyncio.get_running_loop()
        callers = await open_callers(self.path, workers)
        polls = [self.poll_of(i) for i in range(workers)]
        reads: list[tuple[float, float]] = []
        all_read = asyncio.Event()

        async def read(i: int) -> None:
            await asyncio.sleep(random.uniform(0, spread))
            began = loop.time()
            await callers[i].call(polls[i])
            reads.append((began, loop.time()))
            if len(reads) == workers:
                all_read.set()

        tasks: list[asyncio.Task[None]] = []

        def reader(i: int) -> Callable[[float], None]:
            return lambda _at: tasks.append(loop.create_task(read(i)))

        on_messages = [reader(i) for i in range(workers)]
        connections = await open_subscribers(self.path, workers, self._store.keys.channel, on_messages)
        before = self._counters()
        await asyncio.to_thread(self.publish)
        await asyncio.wait_for(all_read.wait(), _PATIENCE)
        cpu = self._counters()[0] - before[0]
        for subscriber in connections:
            subscriber.close()
        _close(callers)
        return self._change(workers, spread, reads, cpu)

    def _change(self, workers: int, spread: float, reads: list[tuple[float, float]], cpu: float) -> Change:
        took = sorted(end - began for began, end in reads)
        ends = sorted(end for _, end in reads)
        return Change(
            workers=workers,
            flags=self.flags,
            payload=self.payload,
            spread=spread,
            first_to_last=ends[-1] - ends[0],
            read_p50=percentile(took, 50),
            read_p99=percentile(took, 99),
            late=sum(seconds > _TIMEOUT for seconds in took),
            peak_bytes=self.payload * _most_within(ends, 0.1),
            cpu=cpu,
        )

    def _counters(self) -> tuple[float, int, int]:
        """Return the server's processor time, bytes in and bytes out since its start."""
        info = cast("dict[str, float]", self._info.info("everything"))
        cpu = info["used_cpu_user"] + info["used_cpu_sys"]
        return cpu, int(info["total_net_input_bytes"]), int(info["total_net_output_bytes"])


def _most_within(ordered: list[float], window: float) -> int:
    """Return the largest number of these times within this many seconds."""
    most = first = 0
    for i, at in enumerate(ordered):
        while ordered[first] < at - window:
            first += 1
        most = max(most, i - first + 1)
    return most


def _close(callers: list[Caller]) -> None:
    for caller in callers:
        caller.close()
