"""A store in a SQLite file, for the processes of one machine, without an installation or a server.

The rules run inside one transaction for each verb. A verb reads first and writes only what changes, so an unchanged
follower's poll is one read transaction, which waits for no writer.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from flagcache.errors import StoreError
from flagcache.runtime.clock import monotonic, wall_milliseconds
from flagcache.stores.abilities import Subscription
from flagcache.stores.base import Ask, Envelope, Notice, Published, Replacing, Reply, Snapshot
from flagcache.stores.rules import verbs as rules
from flagcache.stores.rules.state import believable
from flagcache.stores.sqlite import tables as rows
from flagcache.stores.sqlite.file import SqliteFile, Transaction
from flagcache.stores.unexpected import only_store_errors
from flagcache.stores.verbs_by_rules import VerbsByRules

__all__ = ["CHECK_EVERY", "SqliteStore", "name_of"]

_T = TypeVar("_T")

CHECK_EVERY = 0.25
"""Seconds between two looks of a subscription at the file. A change reaches all in an eighth of a second on average,
and a look costs some 50 µs, a fiftieth of a per cent of one CPU."""


def name_of(namespace: str, *, format_and_protection: str = "1-plain") -> str:
    """Return the name of one namespace in the tables; workers that cannot read each other's envelopes share nothing."""
    return f"{format_and_protection}:{namespace}"


@only_store_errors
class SqliteStore(VerbsByRules):
    """One namespace in a SQLite file, which is created with mode 0600 at its first use.

    It may be used after a fork; a child that was forked while another thread was in SQLite cannot use SQLite, and
    raises.

    Args:
        path: of the file, on a local disk. Its directory must exist.
        namespace: several may share a file.
        timeout: seconds for which a verb waits for other threads and processes in total.
        clock: returns the store's time in milliseconds; the same for all processes.
        format_and_protection: of the envelopes; workers that cannot read each other's share nothing.
        replace_foreign: only we use the file's name, so another program's file there is set aside and replaced.
        guard: called with the path before each time that the file is opened; raises `StoreError` to prevent that.
    """

    reads_only = False
    """Whether the file is opened for reading only: nothing is changed, not even what a worker would repair."""

    def __init__(  # noqa: PLR0913 - each is an option of its own
        self,
        path: str | os.PathLike[str],
        namespace: str,
        *,
        timeout: float = 1.0,
        clock: Callable[[], int] = wall_milliseconds,
        format_and_protection: str = "1-plain",
        replace_foreign: bool = False,
        guard: Callable[[Path], None] | None = None,
    ) -> None:
        self._path = Path(path).absolute()
        self._namespace = namespace
        self._name = name_of(namespace, format_and_protection=format_and_protection)
        self._timeout = timeout
        super().__init__(clock)
        self._guard = guard
        self._row = rows.Row()
        """What the latest verb read."""
        self._file = self._open(replace_foreign=replace_foreign)

    def only_look(self) -> SqliteStore:
        """Return this store for people who look: nothing is changed, not even what a worker would repair."""
        self.reads_only = True
        self._file = self._open()
        return self

    def _open(self, *, replace_foreign: bool = False) -> SqliteFile:
        return SqliteFile(
            self._path,
            rows.SCHEMA,
            self._timeout,
            replace_foreign=replace_foreign,
            only_look=self.reads_only,
            guard=self._guard,
        )

    @property
    def address(self) -> str:
        """Its address, as a URL."""
        return f"sqlite://{self._path}"

    def __repr__(self) -> str:
        return f"<SqliteStore {self.address} namespace={self._namespace!r}>"

    def poll(self, ask: Ask) -> Reply:
        """As `Store.poll`."""

        def step(transaction: Transaction) -> Reply:
            before = self._load(transaction)
            state, reply = rules.poll(before.state, ask, self._clock(), size=before.payload_size)
            self._save(transaction, before, state, notice=rules.announced(before.state, ask, reply))
            if reply.payload is None:
                return reply
            return reply._replace(payload=rows.load_payload(transaction.connection, self._name))

        return self._file.run(step)

    def publish(
        self, me: str, envelope: Envelope, *, fresh: bool, lease: int, replacing: Replacing | None = None
    ) -> Published:
        """As `Store.publish`."""

        def step(transaction: Transaction) -> Published:
            before = self._load(transaction)
            state, published, notice = rules.publish(
                before.state, me, envelope, self._clock(), fresh=fresh, lease=lease, replacing=replacing
            )
            stored = envelope.payload if rules.replaces_payload(state, envelope, published) else None
            self._save(transaction, before, state, payload=stored, notice=notice)
            return published

        return self._file.run(step)

    def inspect(self) -> Snapshot:
        """As `Store.inspect`."""
        stored = self._file.run(self._load)
        return rules.snapshot(stored.state, stored.payload_size, self._clock())

    def clear(self, stamp: str = "") -> int:
        """As `Store.clear`."""

        def step(transaction: Transaction) -> int:
            before = self._load(transaction)
            state, notice = rules.clear(before.state, self._clock(), stamp)
            self._save(transaction, before, state, notice=notice)
            return notice.epoch

        return self._file.run(step)

    def forget(self) -> bool:
        """As `Forgets.forget`."""

        def step(transaction: Transaction) -> bool:
            transaction.write()
            return rows.forget(transaction.connection, self._name)

        return self._file.run(step)

    def close(self) -> None:
        """As `Store.close`."""
        self._file.close()

    def subscribe(self) -> Subscription:
        """As `Subscribable.subscribe`."""
        return _Subscription(self._open(), self._name)

    def _run_verb(self, verb: Callable[[rules.State], tuple[rules.State, _T, Notice | None]]) -> _T:
        def step(transaction: Transaction) -> _T:
            before = self._load(transaction)
            state, result, notice = verb(before.state)
            self._save(transaction, before, state, notice=notice)
            return result

        return self._file.run(step)

    def _load(self, transaction: Transaction) -> rows.Stored:
        self._row = row = rows.load(transaction.connection, self._name, self._row)
        return row.stored._replace(state=believable(row.stored.state, self._clock()))

    def _save(
        self,
        transaction: Transaction,
        before: rows.Stored,
        state: rules.State,
        *,
        payload: bytes | None = None,
        notice: Notice | None = None,
    ) -> None:
        """Write what has changed; restarts the transaction if it only reads."""
        if state == before.state and payload is None and notice is None and not before.oversized:
            return
        transaction.write()
        size = before.payload_size if payload is None else len(payload)  # it is not read if there is none
        rows.save(transaction.connection, self._name, rows.Stored(state, size))
        if payload is not None:
            rows.save_payload(transaction.connection, self._name, payload)
        if notice is not None:
            rows.add_notice(transaction.connection, self._name, notice)


@only_store_errors
class _Subscription:
    """Looks for notices on its own connection, so no verb of the store delays it."""

    def __init__(self, file: SqliteFile, namespace: str) -> None:
        self._file = file
        self._namespace = namespace
        self._closed = threading.Event()
        self._notices: deque[Notice] = deque()
        self._seen = file.run(lambda transaction: rows.last_notice(transaction.connection, namespace))

    def get(self, timeout: float) -> Notice | None:
        until = monotonic() + timeout
        while not self._closed.is_set():
            if not self._notices:
                self._read_notices()
            if self._notices:
                return self._notices.popleft()
            left = until - monotonic()
            if left <= 0:
                return None
            self._closed.wait(min(left, CHECK_EVERY))
        return None

    def close(self) -> None:
        self._closed.set()
        self._file.close()

    def _read_notices(self) -> None:
        found = self._file.run(
            lambda transaction: rows.notices_since(transaction.connection, self._namespace, self._seen)
        )
        if self._seen and (not found or found[0][0] != self._seen):
            what = "it was replaced, or more notices came than it keeps"
            raise StoreError(what, address=f"SQLite store {self._file.path}")
        for number, notice in found:
            if number > self._seen:
                self._notices.append(notice)
                self._seen = number
