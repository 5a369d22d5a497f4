"""One real Redis with thousands of connections: what is its limit?

    python -m benchmarks.load                                 1,000, 3,000 and 9,000 workers, into results/load.json
    python -m benchmarks.load --workers 300 --seconds 1       a short test
    python -m benchmarks.load --tables                        only the tables, from the existing JSON

Each worker is two connections, as in reality: one polls by the library's own script, and one listens. All are in one
asyncio process on the same machine (`connections`). So times are upper bounds, because that process reads and times
every answer, one after the other. What Redis itself counts doesn't depend on that: bytes, and its processor time for a
poll (`cpu_per_poll`), from which `polls_a_second_of_one_core` follows.

`ulimit -n` limits the number of workers to a little less than half of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import redis

from benchmarks.load.measurements import LoadedRedis
from benchmarks.load.report import Load, tables
from benchmarks.load.report import load as read
from flagcache._version import __version__
from tests.support.redis_server import RedisServer, newest_installed

__all__ = ["Load", "main", "run"]

RESULTS = Path(__file__).parents[1] / "results" / "load.json"

WORKERS = (1000, 3000, 9000)

RATES = (300, 1000, 3000)
"""Polls per second that are sent: those of 9,000, 30,000 and 90,000 workers at the default interval of 30 s."""

SPREADS = (0.0, 0.05, 1.0)
"""Seconds over which workers spread their polls after a notice; the second value is the library's."""

FLAGS = (200, 2000)


async def run(path: str, workers: Sequence[int], seconds: float, flags: Sequence[int] = FLAGS) -> Load:
    """Make all measurements.

    Args:
        path: of the server's unix socket.
        workers: sizes of fleets.
        seconds: how long each rate of polls lasts.
        flags: sizes of definitions, in flags.
    """
    load = Load(
        flagcache=__version__,
        python=platform.python_version(),
        machine=platform.platform(),
        processors=os.cpu_count() or 0,
        server={},
        polls=[],
        offered=[],
        fan_out=[],
        changes=[],
    )
    loaded = LoadedRedis(path, flags[0])
    _print("polls, as many as there can be")
    load["polls"].append(asdict(await loaded.polls(8, seconds)))
    for count in workers:
        _print(f"{count:,} workers")
        load["offered"].extend([asdict(await loaded.offered(count, rate, seconds)) for rate in RATES])
        load["fan_out"].append(asdict(await loaded.fan_out(count, 5)))
    loaded.close()
    for number in flags:
        loaded = LoadedRedis(path, number)
        for count in workers:
            _print(f"a change of {number} flags, {count:,} workers")
            load["changes"].extend([asdict(await loaded.change(count, spread)) for spread in SPREADS])
        loaded.close()
    load["server"] = _server(path)
    return load


def _server(path: str) -> dict[str, object]:
    with redis.Redis(unix_socket_path=path) as client:
        info = cast("dict[str, object]", client.info())
    wanted = ("redis_version", "valkey_version", "io_threads_active", "used_memory_peak_human", "maxclients")
    return {name: info[name] for name in wanted if name in info}


def main(arguments: Sequence[str] | None = None) -> int:
    """Start a Redis, measure, and write the JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load", description="One real Redis under thousands of connections."
    )
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS, help="sizes of fleets")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each rate of polls lasts")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the JSON")
    parser.add_argument("--tables", action="store_true", help="don't measure: print the tables from the JSON")
    options = parser.parse_args(arguments)
    if options.tables:
        print(tables(read(options.out)))
        return 0
    binary, files = newest_installed(), resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if binary is None:
        _print("no Redis on this machine; `make test` installs one")
        return 1
    needed = 2 * max(options.workers) + 100
    if needed > files:
        _print(f"{max(options.workers):,} workers need {needed:,} open files; `ulimit -n` allows {files:,}")
        return 1
    with RedisServer(binary, args=("--maxclients", str(needed))) as server:
        load = asyncio.run(run(str(server.socket_path), options.workers, options.seconds))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(load, indent=1) + "\n", encoding="utf-8")
    print(tables(load))
    return 0


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
