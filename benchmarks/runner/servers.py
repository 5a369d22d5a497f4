"""The servers and files of one play, created for each: its own Redis, its own PostHog, and a folder."""

from __future__ import annotations

import contextlib
import random
import tempfile
from typing import Any

import redis
from typing_extensions import Self

from benchmarks.contestants.contestant import WorkerConfig
from benchmarks.contestants.fleet import Fleet
from flagcache_posthog.testing import PostHogStandIn, RemoteStandIn, Served, make_definitions
from tests.support.redis_server import RedisServer, newest_installed

__all__ = ["Servers", "Traffic"]


_COUNTERS = {
    "bytes_out": "total_net_output_bytes",
    "bytes_in": "total_net_input_bytes",
    "round_trips": "total_reads_processed",
}
"""Fields of `INFO stats`, by our names. A request is small and read at once, so one read is one round trip."""


class Traffic:
    """The traffic of a Redis since this was made, without that of the counting itself."""

    def __init__(self, server: RedisServer) -> None:
        self._client = server.client()
        self._info()  # connects
        self._before = self._info()

    def so_far(self) -> dict[str, float]:
        """Return the counts since the beginning, by name."""
        now, again = self._info(), self._info()
        return {name: 2 * now[name] - self._before[name] - again[name] for name in now}

    def _info(self) -> dict[str, float]:
        info = self._client.info("stats")
        return {name: float(info[counter]) for name, counter in _COUNTERS.items()}


class Servers:
    """The servers of one play; a context manager.

    Args:
        flags: in the definitions.
        interval: seconds between two polls of a client.
        delay: seconds that PostHog takes to answer.
        seed: of the random numbers.
    """

    def __init__(self, flags: int, *, interval: float, delay: float, seed: str) -> None:
        self.flags = flags
        self.interval = interval
        self.revision = 1
        self.random = random.Random(seed)
        self._delay = delay
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        binary = newest_installed()
        if binary is None:
            raise FileNotFoundError("there is no Redis on this machine: `make bench` installs one")
        with contextlib.ExitStack() as opened:
            self.redis = opened.enter_context(RedisServer(binary, tcp=True))
            self.posthog: RemoteStandIn = opened.enter_context(
                PostHogStandIn.spawn(make_definitions(self.flags), delay=self._delay)
            )
            self.directory = opened.enter_context(tempfile.TemporaryDirectory(prefix="flagcache-bench-"))
            self._open = opened.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def worker_config(self, *, interval: float | None = None) -> WorkerConfig:
        """Return the environment of workers.

        Args:
            interval: seconds between two polls; None: as `Servers` has it.
        """
        return WorkerConfig(
            posthog=self.posthog.url,
            redis=self.redis.tcp_url,
            directory=self.directory,
            namespace="benchmark",
            interval=self.interval if interval is None else interval,
        )

    def fleet(self, contestant: str, size: int, *, interval: float | None = None) -> Fleet:
        """Return the workers of one contestant, not started yet."""
        return Fleet(contestant, self.worker_config(interval=interval), size)

    def spread(self, size: int) -> list[float]:
        """Return a random start in an interval for each of these workers, as in a fleet that has run for long."""
        return [self.random.uniform(0, self.interval) for _ in range(size)]

    def change(self) -> int:
        """Change one flag at PostHog; return the new revision."""
        self.revision += 1
        self.posthog.serve(make_definitions(self.flags, revision=self.revision))
        return self.revision

    def changed_at(self) -> float:
        """The time of the latest change, as `time.monotonic()`."""
        return self.posthog.truths()[-1].changed_at

    def definition_requests(self, *, after: int = 0) -> list[Served]:
        """Return the requests for definitions, in order, without the first ones of the stand-in's log."""
        return [served for served in self.posthog.served(after=after) if served.path == "definitions"]

    def latest_request(self) -> int:
        """Return the number of the latest request in the stand-in's log."""
        served = self.posthog.served()
        return served[-1].sequence if served else 0

    def redis_info(self) -> dict[str, Any]:
        """Return Redis's `INFO` at the end of a play; empty if Redis is down."""
        with contextlib.suppress(redis.RedisError), self.redis.client(socket_timeout=1.0) as client:
            return {section: client.info(section) for section in ("server", "memory", "commandstats")}
        return {}
