"""The SQLite store of a process that only reads: it opens the file for reading only."""

from __future__ import annotations

from flagcache.errors import StoreError
from flagcache.stores.base import Ask, Envelope, Published, Replacing, Reply
from flagcache.stores.rules import verbs as rules
from flagcache.stores.sqlite import tables as rows
from flagcache.stores.sqlite.file import Transaction
from flagcache.stores.sqlite.store import SqliteStore
from flagcache.stores.unexpected import only_store_errors

__all__ = ["SqliteReaderStore"]


@only_store_errors
class SqliteReaderStore(SqliteStore):
    """One namespace in a SQLite file, for a reader. It makes no file, writes to none and sets none aside.

    As long as there is no file, nothing is stored. Verbs that only write do nothing; SQLite refuses others, which no
    reader calls.
    """

    reads_only = True

    def poll(self, ask: Ask) -> Reply:
        """As `Store.poll`, of an asker that neither leads nor is deputy."""
        asked = ask._replace(may_lead=False, listens=False, watches=False)

        def step(transaction: Transaction) -> Reply:
            stored = self._load(transaction)
            _, reply = rules.poll(stored.state, asked, self._clock(), size=stored.payload_size)
            if reply.payload is None:
                return reply
            return reply._replace(payload=rows.load_payload(transaction.connection, self._name))

        try:
            return self._file.run(step)
        except StoreError:
            if not self._file.is_missing:
                raise
        return rules.poll(rules.State(), asked, self._clock())[1]

    def publish(
        self, me: str, envelope: Envelope, *, fresh: bool, lease: int, replacing: Replacing | None = None
    ) -> Published:
        """Store nothing."""
        return Published.UNSETTLED

    def discard(self, me: str, version: str) -> bool:
        """Drop nothing."""
        return False

    def report(self, me: str, version: str, interval: int) -> bool:
        """Report nothing."""
        return False
