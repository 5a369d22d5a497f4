"""The grants of a store during a test, with the store's own times.

A request arrives after its grant by as long as a busy machine takes, so arrivals don't show how far apart two grants
were. There is no sampling, so no grant is missed: Redis reports each write by `MONITOR`, an SQLite file by a trigger.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, cast

import redis
from typing_extensions import Self

from flagcache.stores.redis.store import keys_of
from flagcache.stores.sqlite.store import SqliteStore
from flagcache_posthog.testing import Served

__all__ = ["GrantLog", "log_grants"]

_GRANT = re.compile(r" grant (\d+)")
_CLOCK = re.compile(r" granted_1 (\d+)")


class _Grant(NamedTuple):
    order: int
    clock: int


class GrantLog(ABC):
    """Every grant of one namespace since the log began."""

    _clocks: Sequence[int] = ()

    def __repr__(self) -> str:
        apart = [later - earlier for earlier, later in itertools.pairwise(self._clocks)]
        return f"<{len(self._clocks)} grants, so many ms apart: {apart}>"  # pytest shows it with a failure

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Stop logging."""

    @abstractmethod
    def _grants(self) -> Iterable[_Grant]:
        """Return all so far, in order."""

    def clocks(self) -> list[int]:
        """When each was given, in milliseconds of the store's clock."""
        self._clocks = [grant.clock for grant in self._grants()]
        return list(self._clocks)

    def at_most(self, count: int, requests: Sequence[Served], interval: float) -> bool:
        """Return whether each request had its own grant, and no interval, less a tenth, had more than `count`.

        A grant is due nine tenths of an interval after the latest one, even if that was the third of three.

        Args:
            count: the most grants.
            requests: all since the log began.
            interval: seconds between two fetches of the fleet.
        """
        clocks = self.clocks()
        stretches = [sum(start <= at < start + 900 * interval for at in clocks) for start in clocks]
        return len(requests) <= len(clocks) and max(stretches, default=0) <= count

    def one_an_interval(self, requests: Sequence[Served], interval: float, *, more: int = 0) -> bool:
        """Return whether each request had its own grant, and no grant came within 0.9 intervals of the previous one.

        Args:
            requests: all since the log began.
            interval: seconds between two fetches of the fleet.
            more: this many grants may come sooner, after a holder that died, left during a fetch or was refused.
        """
        clocks = self.clocks()
        sooner = sum(later - earlier < 900 * interval for earlier, later in itertools.pairwise(clocks))
        return len(requests) <= len(clocks) and sooner <= more


def log_grants(store_url: str, namespace: str) -> GrantLog:
    """Start to log what this store grants, before any worker polls it."""
    if store_url.startswith("sqlite"):
        return _SqliteLog(Path(store_url.removeprefix("sqlite://")), namespace)
    return _RedisLog(store_url, namespace)


class _RedisLog(GrantLog):
    def __init__(self, url: str, namespace: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._monitor = self._client.monitor()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        self._monitor.__enter__()
        self._client.ping()  # connects now, so that later counts of connections find no further one
        self._hash = keys_of(namespace, 0).hash
        self._database = int(self._client.connection_pool.connection_kwargs.get("db", 0))
        self._seen: list[_Grant] = []

    def close(self) -> None:
        self._monitor.__exit__(None, None, None)
        self._client.close()

    def _grants(self) -> list[_Grant]:
        end = uuid.uuid4().hex  # others may read their own log
        self._client.echo(end)
        for said in cast("Iterable[dict[str, object]]", self._monitor.listen()):
            command = str(said["command"])
            if command == f"ECHO {end}":
                break
            if said["client_type"] == "lua" and said["db"] == self._database:
                self._note(command)
        return self._seen

    def _note(self, command: str) -> None:
        """A field is written when it changes: two grants at one time of the clock write that once."""
        grant, clock = _GRANT.search(command), _CLOCK.search(command)
        if command.startswith(f"HSET {self._hash} ") and grant:
            self._seen.append(_Grant(int(grant[1]), int(clock[1]) if clock else self._seen[-1].clock))


class _SqliteLog(GrantLog):
    """The grants in a file that only one namespace uses."""

    def __init__(self, path: Path, namespace: str) -> None:
        self._path = path
        with closing(SqliteStore(path, namespace)) as store:
            store.inspect()  # makes the file
        with self._open() as connection:
            connection.execute("CREATE TABLE granted (at INTEGER PRIMARY KEY, clock INTEGER)")
            connection.execute(
                "CREATE TRIGGER log_grants AFTER INSERT ON state WHEN NEW.granted_1 > 0 BEGIN"
                " INSERT OR IGNORE INTO granted VALUES (NEW.grant_as_of, NEW.granted_1); END"
            )

    def close(self) -> None:
        """Nothing to do: the trigger goes with the file."""

    def _grants(self) -> list[_Grant]:
        with self._open() as connection:
            rows: list[tuple[int, int]] = connection.execute("SELECT at, clock FROM granted ORDER BY at").fetchall()
        return [_Grant(*row) for row in rows]

    def _open(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self._path, timeout=10.0, isolation_level=None))
