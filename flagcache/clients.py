"""The clients of the vendor's SDK that use one cache, and which of them calls.

The SDK doesn't pass the client to its provider, so we derive it from the calling thread: a client's own poller, or our
listener, which runs a client's poll on its behalf. During a load the client is on the thread's stack, and the provider
finds it there. Clients are held weakly. Forked children inherit the registry unchanged.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, cast
from weakref import WeakKeyDictionary

from flagcache.runtime.callers import ThreadRecord, thread_record
from flagcache.runtime.threads import patched_late
from flagcache.vendor import Definitions, Fetcher

__all__ = ["Client", "ClientSnapshot", "Clients", "Push"]


class Client(Protocol):
    """The engine's interface of a client. An implementation must not keep the SDK's client alive."""

    @property
    def gone(self) -> bool:
        """It was shut down in this process, or is no longer referenced."""
        ...

    @property
    def listening(self) -> bool:
        """Whether our listener pushes changes to it and renews the lease between its polls.

        If not, it gets changes with its own polls, and only those renew the lease.
        """
        ...

    @property
    def poll_interval(self) -> float:
        """Seconds between two of its own polls."""
        ...

    @property
    def polling(self) -> bool | None:
        """Whether its poller runs; None before its first load, when there is none yet."""
        ...

    @property
    def polls(self) -> bool:
        """Whether it has a poller, or will have one after its first load."""
        ...

    @property
    def asking(self) -> bool:
        """Whether the calling thread is its own poller."""
        ...

    @property
    def project(self) -> str:
        """What is known of its project without asking the vendor, as `aspect=value` words."""
        ...

    @property
    def can_fetch(self) -> bool:
        """Whether it has a fetcher now: it has a key, and isn't disabled."""
        ...

    @property
    def fetcher(self) -> Fetcher | None:
        """A new fetcher with its keys; None if it can't fetch."""
        ...

    def has(self, definitions: Definitions) -> bool:
        """Whether it uses these very objects, with at least one flag, so it needn't get them again."""
        ...

    def differs_from(self, definitions: Definitions) -> bool:
        """Whether it uses other definitions."""
        ...

    @property
    def has_no_flags(self) -> bool:
        """Whether it has no flags at all."""
        ...

    def close(self) -> None:
        """It was shut down in this process."""
        ...

    def poll(self) -> None:
        """Run its own poll on the calling thread; nothing if its poller does not run."""
        ...


_TAKES = 1.0
"""Seconds that a client may take to adopt definitions, on a busy machine. After that they are handed over again."""


class _HandOver(NamedTuple):
    """The last definitions that a client got, on which thread, and when."""

    definitions: Definitions
    thread: int
    at: float


class ClientSnapshot(NamedTuple):
    """The clients in use at one moment, and what the engine has to know of all of them together."""

    live: tuple[Client, ...]
    """Those in use in this process."""
    wanting: tuple[Client, ...]
    """Those of them that want our listener."""
    listening: tuple[Client, ...]
    """Those that have it: none if gevent has patched since a cache was made."""
    can_fetch: bool
    """Whether any of them can fetch."""
    polling: bool
    """Whether the poller of any of them runs, or may start with its first load."""
    poll_interval: float | None
    """The longest time between two polls of any of them, in seconds; None if there are none."""


class Push:
    """One round of polls that our thread runs for clients, one after the other; all share one poll of the store.

    Args:
        contends: whether that poll may take the lease.
    """

    __slots__ = ("asked", "client", "contends")

    def __init__(self, *, contends: bool) -> None:
        self.contends = contends
        self.asked = False
        """Whether the store was polled."""
        self.client: Client | None = None
        """Whose poll runs now."""


class Clients:
    """The known clients of one cache."""

    def __init__(self) -> None:
        self._all: tuple[Client, ...] = ()
        self._seen = object()
        """The name of our `one_snapshot` in a thread's record."""
        self._given: WeakKeyDictionary[Client, _HandOver] = WeakKeyDictionary()

    def add(self, client: Client) -> None:
        """Add a client."""
        self._all = (*(c for c in self._all if not c.gone), client)
        thread_record().notes.pop(self._seen, None)  # a callback may attach a client in the course of a poll

    @property
    def snapshot(self) -> ClientSnapshot:
        """The clients at this moment; during the calling thread's `one_snapshot`, as they were at its beginning."""
        seen = cast("ClientSnapshot | None", thread_record().notes.get(self._seen))
        return self._look() if seen is None else seen

    @contextmanager
    def one_snapshot(self, thread: ThreadRecord) -> Generator[ClientSnapshot]:
        """Inside the `with` block the calling thread sees the clients as they were at its start: one state a poll.

        A client may be shut down or collected, or change its keys or its poll interval, at any time.
        """
        notes = thread.notes
        notes[self._seen] = seen = self._look()
        try:
            yield seen
        finally:
            notes.pop(self._seen, None)

    def _look(self) -> ClientSnapshot:
        live: list[Client] = []
        wanting: list[Client] = []
        can_fetch = polling = False
        longest: float | None = None
        for client in self._all:
            if client.gone:
                continue
            live.append(client)
            if client.listening:
                wanting.append(client)
            can_fetch = can_fetch or client.can_fetch
            polling = polling or client.polling is not False
            interval = client.poll_interval
            longest = interval if longest is None else max(longest, interval)
        listening = () if patched_late() else tuple(wanting)
        return ClientSnapshot(tuple(live), tuple(wanting), listening, can_fetch, polling, longest)

    @property
    def live(self) -> tuple[Client, ...]:
        """As `ClientSnapshot.live`."""
        return self.snapshot.live

    @property
    def listening(self) -> tuple[Client, ...]:
        """As `ClientSnapshot.listening`."""
        return self.snapshot.listening

    @property
    def can_fetch(self) -> bool:
        """As `ClientSnapshot.can_fetch`."""
        return self.snapshot.can_fetch

    @property
    def polls(self) -> bool:
        """Whether any client polls; an unknown client counts as one that does."""
        live = self.live
        return not live or any(client.polls for client in live)

    @property
    def project(self) -> str:
        """What is known of their project, which all of them share."""
        return next((client.project for client in self.live), "")

    def fetcher(self) -> Fetcher | None:
        """Create a fetcher for all of them; None if no client can fetch now."""
        return next((fetcher for client in self._look().live if (fetcher := client.fetcher) is not None), None)

    def asking(self, thread: ThreadRecord) -> Client | None:
        """Return the client for whose poll this thread, the calling one, asks; None if it is unknown."""
        push = self.push_on(thread)
        if push is not None and push.client is not None:
            return push.client
        for client in self._all:
            if client.asking:
                return client
        return None

    def may_hand_over(self, client: Client | None, definitions: Definitions, now: float) -> bool:
        """Whether the calling thread must hand these over: its client has others, and no other thread does it already.

        A client's own poll and a push may coincide. The SDK hashes what it gets, and doing so twice would take twice as
        long. A client without flags gets them in any case.

        Args:
            client: as `asking` returns it.
            definitions: what this process holds.
            now: this process's own clock, in seconds.
        """
        if client is None:
            return True
        if client.has(definitions):
            return False
        if not client.has_no_flags and self.being_adopted(client, definitions, now):
            return False
        self._given[client] = _HandOver(definitions, threading.get_ident(), now)
        return True

    def being_adopted(self, client: Client, definitions: Definitions, now: float) -> bool:
        """Whether another thread has handed these to a client, which may still be adopting them."""
        given = self._given.get(client)
        if given is None or given.definitions is not definitions or given.thread == threading.get_ident():
            return False
        return 0 <= now - given.at < _TAKES

    @property
    def on_behalf(self) -> bool:
        """Whether the calling thread is ours and runs a client's poll."""
        return self in thread_record().notes

    @property
    def push(self) -> Push | None:
        """The push that the calling thread makes; None if it isn't ours, or makes none."""
        return self.push_on(thread_record())

    def push_on(self, thread: ThreadRecord) -> Push | None:
        """Return the push that this thread makes."""
        return cast("Push | None", thread.notes.get(self))

    @contextmanager
    def polling_for(self, client: Client, push: Push) -> Generator[None]:
        """Inside the `with` block the calling thread asks for this client, in the course of a push."""
        notes = thread_record().notes
        push.client, notes[self] = client, push
        try:
            yield
        finally:
            del notes[self]
